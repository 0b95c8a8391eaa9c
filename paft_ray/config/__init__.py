"""One strict model per section: a YAML file plus `section.key=value` overrides becomes a validated `Config`.

Unknown keys are refused with the nearest valid key. Imports neither Ray nor torch, so that `--help` and `--dry-run` are
fast.
"""

from paft_ray.config.base import Fraction, Place, Positive, Precision, Section, Seed, builtin, fast_precision, located
from paft_ray.config.data import DataConfig
from paft_ray.config.endpoint import EndpointConfig
from paft_ray.config.engine import EngineConfig, engine_key, trained_engine_key
from paft_ray.config.evaluate import EvaluateConfig, answers_key
from paft_ray.config.generator import GeneratorConfig, generator_key
from paft_ray.config.judge import JudgeConfig
from paft_ray.config.load import load_config, parse_config, read_yaml_file, with_overrides
from paft_ray.config.model import ModelConfig, configured_model, input_key
from paft_ray.config.prompts import PromptsConfig, Strategy, prompts_key
from paft_ray.config.report import ReportConfig
from paft_ray.config.run import Config
from paft_ray.config.sampling import EveryKConfig, Over, PerExampleConfig, SamplingConfig, sampling_key
from paft_ray.config.score import ScoreConfig
from paft_ray.config.sweep import RangeConfig, SchedulerConfig, SearcherConfig, SpaceConfig, SweepConfig
from paft_ray.config.tracking import TrackingConfig
from paft_ray.config.train import LoraConfig, TrainConfig, TrainedArm, weights_key

__all__ = [
    "Config",
    "DataConfig",
    "EndpointConfig",
    "EngineConfig",
    "EvaluateConfig",
    "EveryKConfig",
    "Fraction",
    "GeneratorConfig",
    "JudgeConfig",
    "LoraConfig",
    "ModelConfig",
    "Over",
    "PerExampleConfig",
    "Place",
    "Positive",
    "Precision",
    "PromptsConfig",
    "RangeConfig",
    "ReportConfig",
    "SamplingConfig",
    "SchedulerConfig",
    "ScoreConfig",
    "SearcherConfig",
    "Section",
    "Seed",
    "SpaceConfig",
    "Strategy",
    "SweepConfig",
    "TrackingConfig",
    "TrainConfig",
    "TrainedArm",
    "answers_key",
    "builtin",
    "configured_model",
    "engine_key",
    "fast_precision",
    "generator_key",
    "input_key",
    "load_config",
    "located",
    "parse_config",
    "prompts_key",
    "read_yaml_file",
    "sampling_key",
    "trained_engine_key",
    "weights_key",
    "with_overrides",
]
