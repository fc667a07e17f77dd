"""Lightning: the callback watches the first steps of `fit`, and again the first after something else is unfrozen."""

import lightning as L
import torch
from model import Classifier, build_optimizer
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from freezecheck.callbacks.lightning import FreezeCheck


class Module(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = Classifier()

    def on_train_epoch_start(self):
        self.model.train()  # Lightning leaves every mode as it finds it; this one puts the backbone in eval

    def training_step(self, batch, _):
        images, labels = batch
        return F.cross_entropy(self.model(images), labels)

    def configure_optimizers(self):
        return build_optimizer(self.model)


def main():
    torch.manual_seed(0)
    data = TensorDataset(torch.randn(32, 3, 32, 32), torch.randint(0, 4, (32,)))
    check = FreezeCheck("freeze.toml", on_violation="raise")
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = L.Trainer(max_epochs=1, accelerator="cpu", callbacks=[check], **quiet)
    trainer.fit(Module(), DataLoader(data, batch_size=8))
    print(check.results[0])


if __name__ == "__main__":
    main()
