"""Instruction-based image editing with multi-perspective rewards as a condition, in JAX.

The public names below are imported on first use: JAX takes seconds, and `mre --help` needs none.

    >>> from mre_jax import EditRequest
    >>> EditRequest(prompt="make it snow").guidance_scale
    7.5
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mre_jax.annotation.annotate import AnnotateSpec as AnnotateSpec
    from mre_jax.annotation.annotate import annotate as annotate
    from mre_jax.data.cache.description import CacheOptions as CacheOptions
    from mre_jax.data.prepare import CacheSpec as CacheSpec
    from mre_jax.data.prepare import PrepareSpec as PrepareSpec
    from mre_jax.data.prepare import cache as cache
    from mre_jax.data.prepare import prepare as prepare
    from mre_jax.data.records.record_source import RecordSource as RecordSource
    from mre_jax.doctor.examine import examine as examine
    from mre_jax.doctor.spec import DoctorSpec as DoctorSpec
    from mre_jax.editing.edit_photo import edit_photo as edit_photo
    from mre_jax.editing.model_spec import ModelSpec as ModelSpec
    from mre_jax.editing.pipeline import EditPipeline as EditPipeline
    from mre_jax.editing.request import EditConditions as EditConditions
    from mre_jax.editing.request import EditRequest as EditRequest
    from mre_jax.editing.sample import sample as sample
    from mre_jax.editing.settings import SamplingSettings as SamplingSettings
    from mre_jax.editing.spec import EditSpec as EditSpec
    from mre_jax.editing.spec import SampleSpec as SampleSpec
    from mre_jax.evaluation.meta.spec import JudgeEvaluation as JudgeEvaluation
    from mre_jax.evaluation.metrics.networks import MaskedNetworkSpec as MaskedNetworkSpec
    from mre_jax.evaluation.metrics.networks import NetworkSpec as NetworkSpec
    from mre_jax.evaluation.metrics.networks import PairNetworkSpec as PairNetworkSpec
    from mre_jax.evaluation.metrics.networks import SetNetworkSpec as SetNetworkSpec
    from mre_jax.evaluation.metrics.pixel import measure_pair as measure_pair
    from mre_jax.evaluation.pairs.spec import PairwiseSpec as PairwiseSpec
    from mre_jax.evaluation.results import Result as Result
    from mre_jax.evaluation.results import read_results as read_results
    from mre_jax.evaluation.statistics.spec import StatisticsSpec as StatisticsSpec
    from mre_jax.evaluation.suites.challenging import Challenging as Challenging
    from mre_jax.evaluation.suites.emu_edit import EmuEdit as EmuEdit
    from mre_jax.evaluation.suites.gedit import GEdit as GEdit
    from mre_jax.evaluation.suites.imgedit import ImgEdit as ImgEdit
    from mre_jax.evaluation.suites.magicbrush import MagicBrush as MagicBrush
    from mre_jax.evaluation.suites.real_edit import RealEdit as RealEdit
    from mre_jax.evaluation.suites.reason_edit import ReasonEdit as ReasonEdit
    from mre_jax.evaluation.suites.table7 import Table7 as Table7
    from mre_jax.evaluation.system import SystemSpec as SystemSpec
    from mre_jax.evaluation.tables.spec import TablesSpec as TablesSpec
    from mre_jax.improvement.improve import improve as improve
    from mre_jax.improvement.spec import ImproveSpec as ImproveSpec
    from mre_jax.judges.packs.pack import load_pack as load_pack
    from mre_jax.judges.question import Question as Question
    from mre_jax.judges.spec import JudgeSpec as JudgeSpec
    from mre_jax.models.reward import RewardInputs as RewardInputs
    from mre_jax.planning.plan import plan as plan
    from mre_jax.planning.spec import PlanSpec as PlanSpec
    from mre_jax.report.spec import ReportSpec as ReportSpec
    from mre_jax.reward.config import RewardConfig as RewardConfig
    from mre_jax.training.config import DataConfig as DataConfig
    from mre_jax.training.config import ModelConfig as ModelConfig
    from mre_jax.training.config import TrainConfig as TrainConfig
    from mre_jax.training.config import load_config as load_config
    from mre_jax.training.export import ExportSpec as ExportSpec
    from mre_jax.training.export import export as export
    from mre_jax.training.train import train as train
    from mre_jax.weights.convert import ConvertSpec as ConvertSpec
    from mre_jax.weights.convert import convert as convert
    from mre_jax.weights.load import load_unet as load_unet

__version__ = "0.1.0"

_NAMES = {
    "annotation.annotate": "AnnotateSpec annotate",
    "data.cache.description": "CacheOptions",
    "data.prepare": "CacheSpec PrepareSpec cache prepare",
    "data.records.record_source": "RecordSource",
    "doctor.examine": "examine",
    "doctor.spec": "DoctorSpec",
    "editing.edit_photo": "edit_photo",
    "editing.model_spec": "ModelSpec",
    "editing.pipeline": "EditPipeline",
    "editing.request": "EditConditions EditRequest",
    "editing.sample": "sample",
    "editing.settings": "SamplingSettings",
    "editing.spec": "EditSpec SampleSpec",
    "evaluation.meta.spec": "JudgeEvaluation",
    "evaluation.metrics.networks": "MaskedNetworkSpec NetworkSpec PairNetworkSpec SetNetworkSpec",
    "evaluation.metrics.pixel": "measure_pair",
    "evaluation.pairs.spec": "PairwiseSpec",
    "evaluation.results": "Result read_results",
    "evaluation.statistics.spec": "StatisticsSpec",
    "evaluation.suites.challenging": "Challenging",
    "evaluation.suites.emu_edit": "EmuEdit",
    "evaluation.suites.gedit": "GEdit",
    "evaluation.suites.imgedit": "ImgEdit",
    "evaluation.suites.magicbrush": "MagicBrush",
    "evaluation.suites.real_edit": "RealEdit",
    "evaluation.suites.reason_edit": "ReasonEdit",
    "evaluation.suites.table7": "Table7",
    "evaluation.system": "SystemSpec",
    "evaluation.tables.spec": "TablesSpec",
    "improvement.improve": "improve",
    "improvement.spec": "ImproveSpec",
    "judges.packs.pack": "load_pack",
    "judges.question": "Question",
    "judges.spec": "JudgeSpec",
    "models.reward": "RewardInputs",
    "planning.plan": "plan",
    "planning.spec": "PlanSpec",
    "report.spec": "ReportSpec",
    "reward.config": "RewardConfig",
    "training.config": "DataConfig ModelConfig TrainConfig load_config",
    "training.export": "ExportSpec export",
    "training.train": "train",
    "weights.convert": "ConvertSpec convert",
    "weights.load": "load_unet",
}
"""By module."""

_PLACES = {name: f"mre_jax.{place}" for place, names in _NAMES.items() for name in names.split()}
__all__ = sorted(_PLACES)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
