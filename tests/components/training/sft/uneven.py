"""A worker of `sft` in which processes take their dev questions without regard to each other, so that it hangs."""

from __future__ import annotations

import torch

from components.training.sft.examination import Examination, answer_in
from components.training.sft.worker import main
from pathoflow.training.generation import respond
from pathoflow.training.steps import filler
from pathoflow.training.worker import run_worker


def examine(self, model, args):
    """Every process takes as many batches as its own questions fill."""
    own = range(args.process_index, len(self._questions), args.world_size)
    model.eval()
    right = torch.zeros(())
    for start in range(0, len(own), self._batch_size):
        numbers = own[start : start + self._batch_size]
        prompts = [self._encoded(number) for number in numbers]
        texts = respond(model, self._encoder, prompts, filler(self._encoder), self._max_new_tokens)
        right += sum(
            answer_in(text) == self._questions[number].answer for text, number in zip(texts, numbers, strict=True)
        )
    model.train()
    torch.distributed.all_reduce(right)
    return float(right) / len(self._questions)


if __name__ == "__main__":
    Examination.examine = examine
    run_worker(main)
