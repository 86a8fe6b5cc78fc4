"""The source patcher, on a corpus of files in as many styles as people write models in.

A case is a folder of `cases/`: `before.py` and `after.py`, both written by hand; or folders `before/` and `after/` with
`model.py` as the target, where several files matter; or `before.py` and `refusal.txt`, a fragment of the reason why
there is no patch. Where `after.py` is `before.py`, there is nothing to do. The cases of other norms than batch norm lie
in `norms/`, in a folder of their kind.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path

import pytest
import torch
from projects import Files, planned, project
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from gradcheck_tool.auditing import Reading
from gradcheck_tool.capturing import capture
from gradcheck_tool.inputs.samples import enough, varied
from gradcheck_tool.remedy.insert_norm import KINDS, NormKind
from gradcheck_tool.remedy.patch.proposing import Proposal, Refused, propose
from gradcheck_tool.remedy.rewrite import insert, new_norm
from gradcheck_tool.results import Insertion
from gradcheck_tool.structures import tensors_in
from gradcheck_tool.target import Subject

FOLDER = Path(__file__).parent / "cases"
OTHERS = Path(__file__).parent / "norms"


@dataclass(frozen=True)
class Case:
    """The user's files before, and after or the reason why not."""

    name: str
    before: Files
    after: Files | None
    refusal: str | None
    kind: NormKind = "batch"

    def __str__(self) -> str:
        return self.name if self.kind == "batch" else f"{self.kind}: {self.name}"


def read_case(folder: Path, kind: NormKind = "batch") -> Case:
    refusal = folder / "refusal.txt"
    return Case(
        folder.name,
        before=read_files(folder, "before"),
        after=None if refusal.exists() else read_files(folder, "after"),
        refusal=refusal.read_text(encoding="utf-8").strip() if refusal.exists() else None,
        kind=kind,
    )


def read_files(folder: Path, side: str) -> Files:
    if (folder / f"{side}.py").exists():
        return {"model.py": (folder / f"{side}.py").read_bytes()}
    return {path.relative_to(folder / side).as_posix(): path.read_bytes() for path in (folder / side).rglob("*.py")}


CASES = [read_case(folder) for folder in sorted(FOLDER.iterdir()) if folder.is_dir()]
CASES += [read_case(folder, kind) for kind in KINDS for folder in sorted((OTHERS / kind).glob("*"))]
every_case = pytest.mark.parametrize("case", CASES, ids=str)
patched_cases = pytest.mark.parametrize("case", [case for case in CASES if case.after is not None], ids=str)


# the patcher


@every_case
def test_the_patch_is_what_a_careful_colleague_would_write(case: Case, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    with project(case.before, folder) as loaded:
        subject, reading, plan = planned(loaded, case.kind)
        if case.before == case.after:
            assert not plan
            return

        if case.refusal is not None:
            with pytest.raises(Refused, match=re.escape(case.refusal)):
                first_proposal(subject, reading, plan)
            return
        changed = {path.resolve(): content for path, content in first_proposal(subject, reading, plan).after.items()}
    assert case.after is not None
    names = {name: (folder / name).resolve() for name in case.before}
    assert changed.keys() <= set(names.values()), "a file that is not the project's"
    patched = {name: changed.get(path, case.before[name]) for name, path in names.items()}
    if patched != case.after:
        pytest.fail("\n".join(differences(case.after, patched)), pytrace=False)


def first_proposal(subject: Subject, reading: Reading, plan: tuple[Insertion, ...]) -> Proposal:
    return next(propose(subject.model, reading.structure, plan, subject.origins))


CLASSICS = (
    *("lenet_5", "alexnet", "vgg_make_layers", "vgg_with_attributes_by_stage", "dcgan_generator"),
    *("dcgan_discriminator", "variational_autoencoder", "unet_with_attributes", "language_model_with_a_deep_head"),
)
"""Tutorials' models, from memory in their usual style. The character RNN of the tutorials has nothing to be patched."""


@pytest.mark.parametrize("name", CLASSICS)
def test_a_patched_classic_trains(name: str, tmp_path: Path) -> None:
    before = read_case(FOLDER / name).before
    with project(before, tmp_path / "before") as loaded:
        subject, reading, plan = planned(loaded)
        proposal = first_proposal(subject, reading, plan)
        old_keys = len(subject.model.state_dict())
    patched = {path.name: content for path, content in proposal.after.items()}
    with project({**before, **patched}, tmp_path / "after") as again:
        model = again.model.train()
        inputs = enough(varied(model, again.inputs, seed=0), seed=0)
        assert len(model.state_dict()) == old_keys + 5 * len(plan)  # weight, bias, mean, variance, count
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        losses = []
        for _ in range(5):
            optimizer.zero_grad()
            outputs = [out for out in tensors_in(model(*inputs.args, **inputs.kwargs)) if out.requires_grad]
            loss = torch.stack([out.square().mean() for out in outputs]).sum()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert torch.tensor(losses).isfinite().all()
        norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        assert all((norm.weight != 1).any() for norm in norms), "the norms learn"
        assert not planned(again)[2], "patched once, there is nothing left"


def differences(expected: Files, patched: Files) -> Iterator[str]:
    for name in sorted(expected.keys() | patched.keys()):
        sides = (expected.get(name, b""), patched.get(name, b""))
        if sides[0] != sides[1]:
            lines = [shown(side) for side in sides]
            yield from unified_diff(*lines, f"{name}, expected", f"{name}, patched", lineterm="")


def shown(content: bytes) -> list[str]:
    """Lines in which tabs, carriage returns, a byte order mark and a missing end of line are seen."""
    text = content.decode("latin-1" if b"coding: latin-1" in content else "utf-8")
    lines = text.replace("\ufeff", "<BOM>").replace("\t", "<TAB>").replace("\r", "<CR>").split("\n")
    return lines[:-1] if not lines[-1] else [*lines[:-1], f"{lines[-1]}<no end of line>"]


# the pairs themselves, without the patcher


@patched_cases
def test_the_pair_computes_what_the_rewritten_graph_does(case: Case, tmp_path: Path) -> None:
    assert case.after is not None
    with project(case.before, tmp_path / "before") as loaded:
        old, reading, plan = planned(loaded, case.kind)
        if case.before == case.after:
            assert not plan
            return
        assert plan
        weights = [value.clone() for value in old.model.state_dict().values()]
        fixed = insert(capture(old.model, old.inputs)[0], plan)
        expected = [outputs(fixed, old, training) for training in (True, False)]
    with project(case.after, tmp_path / "after") as new:
        fresh = fresh_norms(old.model, new.model)
        # in the order of construction there, of calls here
        shared = reading.structure.recurrent
        first = [row for row in plan if "@" not in row.after or row.after.partition("@")[0] not in shared]
        assert sorted(map(repr, fresh.values())) == sorted(repr(new_norm(row)) for row in first)
        load_in_order(new.model, weights, set(fresh))
        found = [outputs(new.model, old, training) for training in (True, False)]
        assert expected[0]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        assert not planned(new, case.kind)[2], "there is something left to fix"


@pytest.mark.parametrize("case", [case for case in CASES if case.refusal is not None], ids=str)
def test_what_is_refused_has_a_plan(case: Case, tmp_path: Path) -> None:
    with project(case.before, tmp_path / "before") as subject:
        assert planned(subject, case.kind)[2]


NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def fresh_norms(old: nn.Module, new: nn.Module) -> dict[str, nn.Module]:
    """The norms of `new`, by name, that `old` does not have: of the same name, where it has any at all."""
    of_old = {name for name, module in old.named_modules() if isinstance(module, NORMS)}
    of_new = {name: module for name, module in new.named_modules() if isinstance(module, NORMS)}
    return {name: module for name, module in of_new.items() if name not in of_old}


def load_in_order(model: nn.Module, values: list[Tensor], fresh: set[str]) -> None:
    """`values`, the parameters and buffers of the model before, into those of `model` that are not of a fresh norm."""
    kept = [key for key in model.state_dict() if key.rpartition(".")[0] not in fresh]
    assert [model.state_dict()[key].shape for key in kept] == [value.shape for value in values]
    model.load_state_dict(dict(zip(kept, values, strict=True)), strict=False)


def outputs(model: nn.Module, subject: Subject, training: bool) -> list[Tensor]:
    model.train(training)
    torch.manual_seed(0)
    with torch.no_grad():
        return list(tensors_in(model(*subject.inputs.args, **subject.inputs.kwargs)))
