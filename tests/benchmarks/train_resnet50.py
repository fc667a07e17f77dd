"""An ordinary training of ResNet-50, layer4 and fc: what `watch.py` runs with and without `freezecheck run`.

It notes when its first line ran after the imports, and how long each step took by the clock and by the processor, in
the file named by STEP_TIMES.
"""

import json
import os
import sys
import time

from resnet50 import build_model, build_optimizer, compute_loss, example_inputs, set_modes

started = time.time()


def main():
    steps = int(sys.argv[1])
    model = build_model()
    optimizer = build_optimizer(model)
    seconds, processor = [], []
    for _ in range(steps):
        begun, used = time.perf_counter(), time.process_time()
        set_modes(model)
        optimizer.zero_grad()
        compute_loss(model, example_inputs()).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - begun)
        processor.append(time.process_time() - used)
    with open(os.environ["STEP_TIMES"], "w") as file:
        json.dump({"started": started, "seconds": seconds, "processor": processor}, file)


if __name__ == "__main__":
    main()
