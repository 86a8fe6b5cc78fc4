"""The check in a training script: before the first step, ask whether the gradient can reach the first layer.

A net with a finding of severity warning or worse is not trained: the report is printed and the exit code is 1.
With `--fixed`, batch norm is inserted first, and the training starts.
"""

from __future__ import annotations

import argparse
import sys

import torch
from deep_sigmoid_mlp import DeepSigmoidMLP, accuracy, load_data, train

import gradcheck_tool as gct

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fixed", action="store_true", help="insert batch norm before training")
    parser.add_argument("--epochs", type=int, default=30)
    args = parser.parse_args()

    torch.manual_seed(0)
    train_set, test_set = load_data()
    inputs, _ = train_set[:64]
    model: torch.nn.Module = DeepSigmoidMLP()
    if args.fixed:
        # Before the optimizer is built: the fixed model has parameters of its own.
        model = gct.fix(model, (inputs,), norm="batch").model

    try:
        gct.check(model, (inputs,))
    except gct.GradientHealthError as error:
        print(error.report)
        sys.exit("Training not started. To train with batch norm inserted: python pretraining_check.py --fixed")

    train(model, train_set, args.epochs)
    print(f"test accuracy {accuracy(model, test_set):.1%}")
