"""The engine for a model that is loaded in this process, alone or together with others that share the requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from accelerate.utils import gather_object

from pathoflow.inference.protocol import Request, Response
from pathoflow.modeling.encoding import Encoded, Encoder, Sample, filler, prompt, remembering
from pathoflow.modeling.generation_config import greedy_decoding
from pathoflow.modeling.vision_cache import DEFAULT_KEPT_TOKENS, VisionFeatureCache, vision_tower


class RequestEncoder:
    """Encodes requests and keeps some of them, for engines that are made anew while a model is trained.

    Args:
        encoder: Encodes samples.
        num_cached: Encoded requests that are kept in memory, the least recently used ones being dropped.
    """

    def __init__(self, encoder: Encoder, num_cached: int = 0) -> None:
        self.encoder = encoder
        self.placeholder = filler(encoder)
        self.encode: Callable[[Request], Encoded] = remembering(self._encode, num_cached)

    def sample(self, request: Request) -> Sample:
        """Renders a request."""
        return prompt(request.messages, request.images, self.encoder.processor, request.name)

    def order(self, requests: Sequence[Request]) -> list[int]:
        """Returns the requests' numbers, the longest first, so that little is padded; equal images come together."""
        lengths = [num_tokens for num_tokens, _ in self.encoder.measure([self.sample(one) for one in requests])]
        return sorted(range(len(requests)), key=lambda number: (-lengths[number], tuple(requests[number].images)))

    def _encode(self, request: Request) -> Encoded:
        return self.encoder.encode(self.sample(request))


class TransformersEngine:
    """Answers requests greedily, in batches of similar length; an image goes through the vision tower once.

    Args:
        model: Generates. Its weights must not change while the engine is used.
        prompts: Encodes requests.
        max_new_tokens: Longest response, in tokens.
        batch_size: Requests that a process answers at a time; None for all of its own.
        process: This process's number.
        num_processes: Processes that share the requests.
    """

    def __init__(
        self,
        model: Any,
        prompts: RequestEncoder,
        *,
        max_new_tokens: int,
        batch_size: int | None = None,
        process: int = 0,
        num_processes: int = 1,
    ) -> None:
        self.model = model
        self._prompts = prompts
        self._max_new_tokens = max_new_tokens
        self._batch_size = batch_size
        self._process, self._num_processes = process, num_processes
        tower = vision_tower(model)
        # Processes whose weights are spread must call the tower equally often, whatever each has seen before.
        kept = DEFAULT_KEPT_TOKENS if num_processes == 1 else 0
        self._vision_cache = None if tower is None else VisionFeatureCache(tower, kept)

    @property
    def tokenizer(self) -> Any:
        """Splits texts into tokens and joins them."""
        return self._prompts.encoder.processor.tokenizer

    def generate(self, requests: Sequence[Request]) -> list[Response]:
        """Returns a response to each request, in the requests' order and in every process.

        All processes must call it together, with the same requests. The model is left in the mode (training or
        evaluation) in which it came.

        Raises:
            ValueError: A request has a schema, to which this engine cannot hold a response.
        """
        if named := [request.name for request in requests if request.schema is not None]:
            raise ValueError(f"{named[0]!r} wants JSON by a schema, which only an endpoint gives")
        was_training = self.model.training
        self.model.eval()
        own: list[tuple[int, str]] = []
        size = self._batch_size or max(1, len(requests))
        # A single batch pads all to the longest, whatever their order.
        is_one_batch = self._num_processes == 1 and len(requests) <= size
        order = range(len(requests)) if is_one_batch else self._prompts.order(requests)
        for places in rounds(len(order), self._process, self._num_processes, size):
            numbers = [order[place] for place in places]
            own += zip(numbers, self._respond([requests[number] for number in numbers]), strict=True)
        self.model.train(was_training)
        answers = gather_object(own) if self._num_processes > 1 else own
        return [Response(text) for _, text in sorted(answers)]

    def inputs(self, requests: Sequence[Request]) -> dict[str, torch.Tensor]:
        """Returns the model's inputs for the requests, padded on the left, on the model's device.

        They always have an image, if need be the placeholder in a row more, as in `steps.packed`.
        """
        prompts = [self._prompts.encode(request) for request in requests]
        if not any("pixel_values" in encoded for encoded in prompts):
            prompts.append(self._prompts.placeholder)
        batch = self._prompts.encoder.batch(prompts, left=True)
        return {key: value.to(self.model.device) for key, value in batch.items() if key not in ("labels", "weights")}

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def forward(self, inputs: dict[str, torch.Tensor], **options: Any) -> Any:
        """Returns the model's output for `inputs`, without gradients."""
        with self._vision_cache or nullcontext():
            return self.model(**inputs, **options)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def _respond(self, requests: Sequence[Request]) -> list[str]:
        """Continues each prompt in one batch.

        The model is called even for no prompts; what follows on the placeholder is dropped. `generate` itself keeps
        in step processes whose answers are of different lengths.
        """
        inputs = self.inputs(requests)
        how = greedy_decoding(self.tokenizer, self._max_new_tokens if requests else 1)
        with self._vision_cache or nullcontext():
            output = self.model.generate(**inputs, generation_config=how)
        new = output[: len(requests), inputs["input_ids"].shape[1] :]
        return [self.tokenizer.decode(ids, skip_special_tokens=True) for ids in new]


def rounds(num: int, process: int, num_processes: int, batch_size: int) -> list[range]:
    """Deals the numbers below `num` to a process, round by round; the last round may leave it nothing.

    Every process has as many rounds. Where weights are spread over processes (ZeRO-3), one that calls the model less
    often than the others leaves them waiting for its part of the weights for ever.

    >>> rounds(5, 0, 2, 2), rounds(5, 1, 2, 2)
    ([range(0, 4, 2), range(4, 6, 2)], [range(1, 5, 2), range(5, 5, 2)])
    """
    own = range(process, num, num_processes)
    most = -(-num // num_processes)
    return [own[start : start + batch_size] for start in range(0, most, batch_size)]
