"""Training scripts as people write them, and their twins with one mistake.

A right script lies in `scripts/NAME/train.py`, with its spec beside it where it has one. A twin is the same script
with a few pieces of its text replaced: what the mistake is can be read there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SCRIPTS = Path(__file__).with_name("scripts")
RIGHT = sorted(path.name for path in SCRIPTS.iterdir() if (path / "train.py").is_file())
TORCHRUN = ("ddp", "fsdp2")


@dataclass(frozen=True)
class Twin:
    """A script with a mistake, and what must be found in it."""

    script: str
    said: str
    changes: tuple[tuple[str, str], ...]
    """(text of the right script, what stands there instead)."""
    must: dict[str, str]
    """Code → the beginning of a tensor's name that its finding has to name."""
    may: tuple[str, ...] = ()
    """Codes at error or warning that are tolerated beside them."""
    line: str = ""
    """A piece of the source line that the first code's finding must point at."""
    spec: str | None = None
    """Another spec than the right script's."""

    def write(self, folder: Path) -> list[str]:
        """Write the twin into a folder; return the options of `run` for it."""
        source = (SCRIPTS / self.script / "train.py").read_text(encoding="utf-8")
        for old, new in self.changes:
            assert source.count(old) == 1, f"{self.script} has `{old}` {source.count(old)} times"
            source = source.replace(old, new)
        (folder / "train.py").write_text(source, encoding="utf-8")
        spec = SCRIPTS / self.script / "freeze.toml"
        if self.spec is None and not spec.is_file():
            return []
        text = self.spec if self.spec is not None else spec.read_text(encoding="utf-8")
        (folder / "freeze.toml").write_text(text, encoding="utf-8")
        return ["--spec", "freeze.toml"]


TWINS = [
    Twin(
        "hf_trainer",
        "a callback of the trainer sets every flag",
        (("trained = sum(", "model.requires_grad_(True)\n        trained = sum("),),
        {"FZ106": "bert.embeddings"},
        line="model.requires_grad_(True)",
    ),
    Twin(
        "lightning_module",
        "the backbone's BatchNorm is left in train mode",
        (("        self.backbone.eval()", "        pass"),),
        {"FZ501": "backbone.1.running_mean"},
    ),
    Twin(
        "peft_lora",
        "the optimizer is made before the adapters",
        (
            (
                "model = get_peft_model",
                "optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)\nmodel = get_peft_model",
            ),
            ("\noptimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-2)\n", "\n"),
        ),
        {"FZ402": "base_model.model.transformer.h.0.attn.c_attn.lora_A", "FZ401": "base_model.model.transformer.wte"},
        may=("FZ202",),  # of lora_A: lora_B, which it needs, stays zero
    ),
    Twin(
        "gan",
        "the generator's optimizer is given the critic",
        (("torch.optim.Adam(generator.parameters()", "torch.optim.Adam(critic.parameters()"),),
        {"FZ402": "generator.0.weight", "FZ404": "critic.0.weight"},
    ),
    Twin(
        "accumulation",
        "the frozen embedding is in the optimizer",
        (("[p for p in model.parameters() if p.requires_grad]", "list(model.parameters())"),),
        {"FZ401": "embedding.weight"},
    ),
    Twin(
        "amp",
        "weights in bfloat16 do not resolve the step",
        (
            ("LEARNING_RATE = 1e-2", "LEARNING_RATE = 1e-7"),
            ("model.features.requires_grad_", "model.to(torch.bfloat16)\nmodel.features.requires_grad_"),
        ),
        {"FZ303": "norm.weight"},
    ),
    Twin(
        "two_stage",
        "the head is replaced after the optimizer took the old one",
        (
            (
                "    model.fc = nn.Linear",
                "    optimizer = torch.optim.SGD(model.fc.parameters(), lr=0.1)\n    model.fc = nn.Linear",
            ),
            ("    optimizer = torch.optim.SGD(model.fc.parameters(), lr=0.1, momentum=0.9)\n", ""),
        ),
        {"FZ403": ""},
        may=("FZ402",),
    ),
    Twin(
        "warmup",
        "the warm-up divides integers and never rises",
        (("step / WARMUP", "step // (1000 * WARMUP)"),),
        {"FZ405": "decoder.weight"},
    ),
    Twin(
        "ddp",
        "one rank freezes a layer more",
        (("optimizer = ", "model.module.neck.requires_grad_(rank == 0)\noptimizer = "),),
        {"FZ109": "neck.weight"},
    ),
    Twin(
        "fsdp2",
        "the optimizer is made before the shards",
        (
            (
                "    for block in model.blocks:",
                "    optimizer = torch.optim.AdamW(model.parameters())\n    for block in model.blocks:",
            ),
            ("    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)\n", ""),
        ),
        {"FZ403": ""},
        may=("FZ402",),
    ),
    Twin(
        "lbfgs",
        "the frozen layer is in the optimizer",
        (("model[2].parameters()", "model.parameters()"),),
        {"FZ401": "0.weight"},
    ),
    Twin(
        "compiled",
        "the outputs are detached, and made to require grad so that nothing complains",
        (("F.cross_entropy(model(x), y)", "F.cross_entropy(model(x).detach().requires_grad_(), y)"),),
        {"FZ206": "head.weight"},
        line="detach()",
    ),
    Twin(
        "data_parallel",
        "the frozen BatchNorm is left in train mode",
        (("    model.module.body.eval()\n", ""),),
        {"FZ501": "body.1.running_mean"},
    ),
    Twin(
        "ema",
        "the optimizer is given the average's parameters",
        (("[p for p in model.parameters() if p.requires_grad]", "average.model.parameters()"),),
        {"FZ403": ""},
        may=("FZ402",),
    ),
    Twin(
        "teacher",
        "the teacher is not put in eval mode",
        (("teacher.eval()\n", ""),),
        {"FZ501": "teacher.1.running_mean"},
    ),
    Twin(
        "submodules",
        "the bridge stands under no_grad too",
        (("        bridged = ", "            bridged = "),),
        {"FZ201": "bridge.weight"},
        line="bridged = ",
    ),
    Twin(
        "sanity",
        "the validation puts the backbone back in train mode",
        (("        self.backbone.eval()\n", ""),),
        {"FZ501": "backbone.1.running_mean"},
    ),
    Twin(
        "set_to_zero",
        "the body is frozen between two epochs, with its momentum and a gradient of zero",
        (("epoch(4)", "epoch(1)\nmodel.body.requires_grad_(False)\nepoch(4)"),),
        {"FZ301": "body.weight"},
        may=("FZ203", "FZ401"),
        spec='frozen = ["body"]',
    ),
]
