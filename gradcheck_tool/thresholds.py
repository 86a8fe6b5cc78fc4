"""The thresholds of the probe's figures, where they come from, and how the verdict follows from them, in words; those
of what a model learns in a few steps are in chances.py.

Scale-free: what is compared are ratios between layers and shares of units, so that multiplying the loss by a number
changes no verdict. Absolute size counts only where a value is not finite.
"""

from __future__ import annotations

from gradcheck_tool.chances import (
    BEGUN,
    CLEARLY_BEGUN,
    EARLY,
    ENOUGH,
    FITTED,
    GROWING,
    HELD_OUT,
    SHRINKING,
    SOUND,
)

STEPS = 2
"""After one step the biases have moved, and what was too small to count against them shows; the second lets gradients
through that the first has opened (benchmarks/trainability.py)."""

VANISHING_DECADES = -4.2
"""Shrinkage of the gradient norm of the layers' outputs over a chain, at the start and still after the steps.

Of small nets that were really trained those that learn stay above -4.1, but for eight and for recurrent ones; most that
do not are below -5.7 (benchmarks/trainability.py). AUTOTRAINER (ICSE 2021) takes -3, of the weights' gradients, which
miss chains in which forward and backward shrink together."""

SHRINKING_DECADES = -5.5
"""The same over the model, between the medians of the first and the last quarter of its layers: which layers are in a
quarter of a small net is chance. Those that learn stay above -5.1, those that do not are below -6. At fresh weights the
lowest of 47 public models that train well is at -1.4 (NFNet; benchmarks/verdicts.py)."""

COLLAPSED_SPREAD = 3e-5
"""‖h − mean over samples‖ / ‖h‖ of what goes into the last weight layer, after the steps. Of the small nets really
trained those that learn are above 6e-5, most of those that do not below 1e-6."""

EXPLODING_DECADES = 3.0
"""Growth of the gradient norm over a chain. Of the small nets really trained those that learn stay below 2.7, but for
two that begin with a loss of more than 1e9 and come down from it; those that do not learn are above 4.5."""

EXPLODED_SCALE = 1e4
"""Root mean square of what goes into a layer, the first one apart: behind inputs of that size a net still learns, while
logits of it need thousands of steps to come down. Of the small nets really trained those that learn stay below 7e3, but
for three, those that do not are above 1.2e4."""

GROWING_DECADES = 2.5
"""Growth of ‖∂L/∂W‖·‖W‖, the weight's gradient times the weight, from the last weight layer of the model to the first:
what normalized models are judged by. The factors alone hang on the weights' size, which a normalization cancels.

At fresh weights and batches of 4 the largest among 47 public models that train well is 2.2 (ResNet-152; ResNet-101 1.5,
Inception v3 1.4, ResNet-50 0.8, transformers below 0), while plain Linear-BatchNorm-ReLU nets, whose gradients grow
1.21-fold with each block (Yang et al. 2019), are at 2.2 with 20 blocks, 3.3 with 30 and 4.2 with 40
(benchmarks/verdicts.py)."""

DEAD_FRACTION = 0.7
"""Share of a layer's units that are zero for every sample of the batch: AUTOTRAINER's share for dying ReLU."""

SATURATED_FRACTION = 0.9
"""Share of a layer's activations within 1 % of the function's range of its bound (for tanh and sigmoid the slope there
is under 4 % of its largest), in more than half of the blocks. Nets with three quarters at the bound in
their worst layer learn (benchmarks/trainability.py): SageMaker Debugger's half cries wolf there."""

_BEGUN, _CLEARLY, _ENOUGH, _FITTED, _HELD_OUT = (
    f"{share:.0%}" for share in (BEGUN, CLEARLY_BEGUN, ENOUGH, FITTED, HELD_OUT)
)

EXPLANATION = f"""\
The verdict of a probe is the first of these that holds. The probe looks at the start; unless the model shows there
that it learns, it takes a few optimizer steps on its batch and looks again; and puts everything back.

non-finite   an output, the loss or a gradient is NaN or infinite, at the start or after the steps.
no-gradient  autograd gives a trainable weight layer on a path to the output nothing at all. Zeros beneath a layer that
             starts at zero are a reason in the report, not a verdict.
dead         in some block at least {DEAD_FRACTION:.0%} of the units are zero for every sample of the batch, though
             what goes into the activation is not. Source: AUTOTRAINER (ICSE 2021), dying ReLU.
vanishing    at the start and after the steps the gradient norm shrinks on its way back to the input, over a chain of
             unnormalized blocks at least {10**-VANISHING_DECADES:,.0f}-fold, or over the model
             {10**-SHRINKING_DECADES:,.0f}-fold (the median of the first quarter of its layers against that of the
             last); or no weight has any gradient after the steps; or all samples are alike to the last layer then:
             what goes into it differs between them by at most {COLLAPSED_SPREAD:.0e} of its size.
exploding    the gradient norm grows at least {10**EXPLODING_DECADES:,.0f}-fold over a chain; or, from the last layer of
             the model to the first, the weight's gradient times the weight grows at least
             {10**GROWING_DECADES:.0f}-fold; or what goes into a layer other than the first has a root mean square of
             {EXPLODED_SCALE:,.0f} or more.
saturated    in most of the blocks at least {SATURATED_FRACTION:.0%} of the activations lie within 1 % of the function's
             range of its bound.
healthy      none of these.

With the user's own loss and targets the probe also trains for a moment with Adam, at a learning rate of 0.01 and of
0.001, from the same weights, each step on another half of the batch, and looks what the inputs explain of the loss of
the whole batch, 1 − L(f) / L(f̄), where f̄ gives every sample the mean of the outputs, or zeros where these do better.

What looks healthy is so where {_CLEARLY} are reached in {EARLY} steps, or {_ENOUGH} in {SOUND.steps}, at one of the
rates. In the end half of what a linear model explains of the same batch is enough, and {_BEGUN} where it explains
little, or the task is no plain classification; of what any outputs at all could explain. With dropout it stays at
{_ENOUGH}. Else it is vanishing, or exploding where the loss ceased to be finite at one rate and as much is
not held to the last step at the other. But a model with a single weight layer, and any on images or sequences of white
noise, stays healthy: that little is learned is no fault of theirs.

Vanishing is but a reason in the report where {_ENOUGH} are reached all the same, in {SHRINKING.steps} steps: the model
learns. So are exploding and saturated where {_FITTED} are reached in {GROWING.steps} steps; or {_HELD_OUT} of
the loss of three eighths of the samples, held out of the training, at the best scale of the outputs.

The thresholds were chosen on nets that were really trained, and checked on others (benchmarks/trainability.py).
"""
