"""What the four verbs return: frozen values that print as their text report and turn into the documented JSON.

Nothing here computes anything about a model; every other room may import this one. A file a subject: `profile`, `audit`
and `fix` hold what the verbs return, `finding` one finding, `document` what all of them share.
"""

from gradcheck_tool.results.audit import (
    AuditReport,
    CaptureFacts,
    Chain,
    Forecast,
    ModelFacts,
    Specialization,
    Unanalyzed,
)
from gradcheck_tool.results.document import (
    SCHEMA_VERSION,
    InputSpec,
    Origin,
    Target,
    Tool,
    this_tool,
    to_json,
)
from gradcheck_tool.results.finding import (
    SEVERITIES,
    Finding,
    Fix,
    Location,
    Severity,
)
from gradcheck_tool.results.fix import (
    FixResult,
    Insertion,
    Skip,
    Trial,
)
from gradcheck_tool.results.profile import (
    AfterSteps,
    Divergence,
    GradientProfile,
    LayerGradient,
    Learning,
    ProbeOutput,
    ProbeReport,
    Verdict,
)

__all__ = [
    "SCHEMA_VERSION",
    "SEVERITIES",
    "AfterSteps",
    "AuditReport",
    "CaptureFacts",
    "Chain",
    "Divergence",
    "Finding",
    "Fix",
    "FixResult",
    "Forecast",
    "GradientProfile",
    "InputSpec",
    "Insertion",
    "LayerGradient",
    "Learning",
    "Location",
    "ModelFacts",
    "Origin",
    "ProbeOutput",
    "ProbeReport",
    "Severity",
    "Skip",
    "Specialization",
    "Target",
    "Tool",
    "Trial",
    "Unanalyzed",
    "Verdict",
    "this_tool",
    "to_json",
]
