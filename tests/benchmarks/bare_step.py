"""The bare rival of `freezecheck verify`: import, build, one training step."""

from resnet50 import build_model, build_optimizer, compute_loss, example_inputs, set_modes

model = build_model()
optimizer = build_optimizer(model)
set_modes(model)
optimizer.zero_grad()
loss = compute_loss(model, example_inputs())
loss.backward()
optimizer.step()
print(f"loss {loss.item():.4f}")
