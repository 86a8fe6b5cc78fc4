"""A Llama of 405 billion parameters, on meta: the time of an audit against a bare forward pass, and the peak memory.

Needs transformers. Exits 1 where the audit takes more than 3 bare passes, or the process more than 1 GB.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable

import torch
import zoo

import gradcheck_tool as gct

LARGEST_RATIO = 3.0
LARGEST_MEMORY_GB = 1.0


def cpu_seconds(work: Callable[[], object]) -> float:
    """The CPU time of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5, help="runs of each, of which the median counts")
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers = zoo.imported("transformers")
    config = transformers.LlamaConfig(
        hidden_size=16384,
        intermediate_size=53248,
        num_hidden_layers=126,
        num_attention_heads=128,
        num_key_value_heads=8,
        vocab_size=128256,
        bos_token_id=0,
        eos_token_id=1,
    )
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config).train()
        ids = torch.zeros(2, 16, dtype=torch.long)
    report = gct.audit(model, ids)
    model(ids)
    bare = statistics.median(cpu_seconds(lambda: model(ids)) for _ in range(options.repeat))
    audit = statistics.median(cpu_seconds(lambda: gct.audit(model, ids)) for _ in range(options.repeat))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(f"{report.model.parameters / 1e9:.1f} billion parameters, {report.capture.nodes} nodes")
    print(f"bare forward {bare:.2f} s, audit {audit:.2f} s: {audit / bare:.2f} times; peak memory {memory:.2f} GB")
    return int(audit > LARGEST_RATIO * bare or memory > LARGEST_MEMORY_GB)


if __name__ == "__main__":
    sys.exit(main())
