"""DeepFloyd IF's safety checker, for the transformers of today."""

from __future__ import annotations

from diffusers.pipelines.deepfloyd_if import safety_checker
from transformers import CLIPConfig


class IFSafetyChecker(safety_checker.IFSafetyChecker):
    """The same, finished as transformers wants every model to be.

    From version 5 on it cannot load the weights of a model whose constructor lacks that call,
    and diffusers 0.42.1 makes it for Stable Diffusion's checker only.
    """

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__(config)
        self.post_init()
