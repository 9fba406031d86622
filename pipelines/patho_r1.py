"""The Patho-R1 pipeline: textbook pages in; a trained, evaluated, registered vision-language model out."""

from kfp import dsl
from kfp.dsl.base_component import BaseComponent
from kfp.dsl.pipeline_channel import PipelineChannel

from components.data_processing.corpus.component import corpus
from components.data_processing.diagnosis_mcqs.component import diagnosis_mcqs
from components.data_processing.public_pairs.component import public_pairs
from components.data_processing.reasoning_data.component import reasoning_data
from components.data_processing.teaching_atlas.component import teaching_atlas
from components.data_processing.textbook_pairs.component import textbook_pairs
from components.deployment.register.component import register
from components.evaluation.vqa_benchmarks.component import vqa_benchmarks
from components.training.base_model.component import base_model
from components.training.cpt.component import cpt
from components.training.pathoclip.component import pathoclip
from components.training.rl.component import rl
from components.training.sft.component import sft
from pathoflow.cluster.settings import Cluster
from pathoflow.contract.recipe import Recipe
from pipelines.compute import place
from pipelines.finish import finished


def patho_r1(recipe: Recipe, cluster: Cluster | None = None) -> BaseComponent:
    """The pipeline of one recipe, for a cluster or for one machine. Tasks hand on references; bytes stay in the stores.

    Paper: figure 2 is this graph from left to right.
    """

    def stage(component: BaseComponent, **inputs: PipelineChannel) -> PipelineChannel:
        """Adds one stage with its configuration, image and compute, and returns its output."""
        return place(component, recipe, inputs, cluster).outputs["output"]

    @dsl.pipeline(name=f"patho-r1-{recipe.name}", description=recipe.about.title)
    def pipeline() -> None:
        with finished(recipe, cluster):
            atlas = {"teaching_atlas": stage(teaching_atlas)} if "teaching_atlas" in recipe else {}
            textbook = stage(textbook_pairs, **atlas)
            public = stage(public_pairs, **atlas)
            pairs = stage(corpus, textbook_pairs=textbook, public_pairs=public)
            clip = stage(pathoclip, corpus=pairs)
            reasoning = stage(reasoning_data, corpus=pairs)
            mcqs = stage(diagnosis_mcqs, corpus=pairs, reasoning_data=reasoning)
            base = (
                {"base_model": stage(base_model, corpus=pairs, reasoning_data=reasoning)}
                if "base_model" in recipe
                else {}
            )
            pretrained = stage(cpt, corpus=pairs, **base)
            tuned = stage(sft, reasoning_data=reasoning, cpt=pretrained)
            reinforced = stage(rl, diagnosis_mcqs=mcqs, sft=tuned)
            scores = stage(vqa_benchmarks, diagnosis_mcqs=mcqs, cpt=pretrained, sft=tuned, rl=reinforced)
            stage(register, vqa_benchmarks=scores, pathoclip=clip, rl=reinforced)

    return pipeline
