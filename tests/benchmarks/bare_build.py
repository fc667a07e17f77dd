"""The bare rival of `freezecheck report`: import and build."""

from resnet50 import build_model

model = build_model()
print(f"{sum(p.numel() for p in model.parameters() if p.requires_grad):,} parameters train")
