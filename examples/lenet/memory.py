"""How many bytes of activations each way of freezing holds for the backward pass: at the peak, and when it begins."""

import importlib

import torch
from lenet import compute_loss, example_inputs


class Ledger:
    """Counts the storages that autograd saves, each once, less those that exist anyway (weights and images)."""

    def __init__(self, known):
        self.known = {tensor.untyped_storage().data_ptr() for tensor in known}
        self.holders = {}
        self.held = 0
        self.peak = 0

    def pack(self, tensor):
        return Saved(self, tensor)

    def take(self, storage):
        if storage.data_ptr() in self.known:
            return
        self.holders[storage.data_ptr()] = self.holders.get(storage.data_ptr(), 0) + 1
        if self.holders[storage.data_ptr()] == 1:
            self.held += storage.nbytes()
            self.peak = max(self.peak, self.held)

    def release(self, storage):
        if storage.data_ptr() in self.known:
            return
        self.holders[storage.data_ptr()] -= 1
        if self.holders[storage.data_ptr()] == 0:
            self.held -= storage.nbytes()


class Saved:
    """One saved tensor; autograd drops it together with the graph that needs it, if it does not hold that graph."""

    def __init__(self, ledger, tensor):
        self.ledger = ledger
        self.tensor = tensor.detach()
        ledger.take(tensor.untyped_storage())

    def __del__(self):
        self.ledger.release(self.tensor.untyped_storage())


def measure(name):
    """Return (peak, held): bytes held at most during the forward pass, and bytes held when backward begins."""
    torch.manual_seed(0)
    model = importlib.import_module(name).Net()
    images = example_inputs()
    ledger = Ledger([images, *model.parameters()])
    with torch.autograd.graph.saved_tensors_hooks(ledger.pack, lambda saved: saved.tensor):
        loss = compute_loss(model, images)
        held = ledger.held
        loss.backward()
    return ledger.peak, held


def main():
    print(f"{'':<12} {'peak':>8} {'at backward':>12}   KiB of activations, batch of 64")
    for name in ("plain", "per_layer", "constructor", "no_grad", "detached"):
        peak, held = measure(name)
        print(f"{name:<12} {peak / 1024:>8.0f} {held / 1024:>12.0f}")


if __name__ == "__main__":
    main()
