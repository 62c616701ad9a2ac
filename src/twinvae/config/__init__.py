"""What a run is: validated, documented, printable."""

from twinvae.config.cohort import (
    CohortConfig,
    PhantomConfig,
    PhantomContrast,
    SourceConfig,
    SplitConfig,
)
from twinvae.config.fields import documented_fields
from twinvae.config.load import dump_config, load_config, preset_names, preset_text, validated
from twinvae.config.model import (
    AugmentConfig,
    ModelConfig,
    NetworksConfig,
    TrainConfig,
    TrainingConfig,
)
from twinvae.config.recipe import (
    BiasCorrection,
    BrainMask,
    CropResize,
    HistogramMatch,
    NyulScale,
    PercentileScale,
    RecipeStep,
    Register,
    Reorient,
    ResampleInPlane,
    SelectSlices,
    ZScore,
    recipe_files,
)
from twinvae.config.run import (
    ComputeConfig,
    DecisionConfig,
    EvaluationConfig,
    RunConfig,
    ScoringConfig,
    matching_names,
)

__all__ = [
    "AugmentConfig",
    "BiasCorrection",
    "BrainMask",
    "CohortConfig",
    "ComputeConfig",
    "CropResize",
    "DecisionConfig",
    "EvaluationConfig",
    "HistogramMatch",
    "ModelConfig",
    "NetworksConfig",
    "NyulScale",
    "PercentileScale",
    "PhantomConfig",
    "PhantomContrast",
    "RecipeStep",
    "Register",
    "Reorient",
    "ResampleInPlane",
    "RunConfig",
    "ScoringConfig",
    "SelectSlices",
    "SourceConfig",
    "SplitConfig",
    "TrainConfig",
    "TrainingConfig",
    "ZScore",
    "documented_fields",
    "dump_config",
    "load_config",
    "matching_names",
    "preset_names",
    "preset_text",
    "recipe_files",
    "validated",
]
