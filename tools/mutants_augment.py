"""Faults in augmentation and normalisation."""

from mutant import Mutant

__all__ = ["AUGMENT"]

AUGMENTED, NORMALISED = (f"training/test_data_{name}.py" for name in ("augment", "normalise"))
RUNS, MISTAKES = "training/test_training_augment.py", "training/test_cli_mistakes.py"
MOVED, BATCHES, MATERIAL = "data/augment.py", "data/batches.py", "training/material.py"

AUGMENT = [
    Mutant("mirrored where it is not", MOVED, "torch.where(mirror == 1,", "torch.where(mirror == 0,", AUGMENTED),
    Mutant("mirrored one pixel off", MOVED, "width - 1 - j, j)", "width - j, j)", AUGMENTED),
    Mutant("never the last corner", MOVED, "2 * self.pad + 1, (n, 2)", "2 * self.pad, (n, 2)", AUGMENTED),
    Mutant(
        "rows and columns alike",
        MOVED,
        "(n, 2), generator=generator)",
        "(n, 1), generator=generator).expand(n, 2)",
        AUGMENTED,
    ),
    Mutant("rows as long as columns", MOVED, "r.unsqueeze(2) * width", "r.unsqueeze(2) * height", AUGMENTED),
    Mutant("flip not asked", MOVED, "torch.randint(1 + self.flip,", "torch.randint(2,", AUGMENTED),
    Mutant(
        "only rows get a border",
        MOVED,
        "(i != r).unsqueeze(2) | (j != c).unsqueeze(1)",
        "((i != r).unsqueeze(2) & (j == j).unsqueeze(1))",
        AUGMENTED,
    ),
    Mutant("edge is black", MOVED, 'if self.border == "edge":', "if False:", AUGMENTED),
    Mutant("moved out of sight", MOVED, "self.pad >= min(shape[-2:])", "self.pad > min(shape[-2:])", AUGMENTED),
    Mutant("the same moves in every epoch", BATCHES, "self.generator(n, MOVES)", "self.generator(0, MOVES)", AUGMENTED),
    Mutant("moves by the order's stream", BATCHES, "self.generator(n, MOVES)", "self.generator(n)", AUGMENTED),
    Mutant(
        "moves of the first batches",
        BATCHES,
        "drawn.split(self.size)[start:], strict=True",
        "drawn.split(self.size), strict=False",
        AUGMENTED,
    ),
    Mutant("the estimator's stream", BATCHES, "MOVES = (0, 1)", "MOVES = (1,)", AUGMENTED),
    Mutant("black is 0", BATCHES, "self.x.new_tensor(self.black)", "self.x.new_zeros(len(self.black))", AUGMENTED),
    Mutant(
        "images stay images",
        BATCHES,
        "return batches if self.shape is None else",
        "return batches if True else",
        AUGMENTED,
    ),
    Mutant("normalised in place", "data/normalise.py", "torch.sub(x, mean)", "x.sub_(mean)", NORMALISED),
    Mutant("by the variance", "data/normalise.py", ".div_(std)", ".div_(std * std)", NORMALISED),
    Mutant("black is not normalised", MATERIAL, "data.normalise.black if data.normalise else (0.0,)", "(0.0,)", RUNS),
    Mutant(
        "tests not normalised",
        MATERIAL,
        "return (*hold_out(train, data.validation), test)",
        "return (*hold_out(train, data.validation), load(data.name).test)",
        RUNS,
    ),
    Mutant("digits that are no images", MATERIAL, "source.image or source.shape", "source.shape", RUNS),
    Mutant("augmentation forgotten", MATERIAL, "if data.augment is None:", "if True:", RUNS),
    Mutant("training samples judged as varied", "cli/evaluate.py", ", augment=None)", ")", RUNS),
    Mutant("new fields in old files", "training/codec.py", "in written(value)}", "in names(type(value))}", RUNS),
    Mutant("new fields in no file", "training/codec.py", "getattr(value, name) != later[name]", "False", RUNS),
    Mutant("flip whatever is said", "cli/words.py", "flip=bool(rest)", "flip=True", RUNS),
    Mutant("any word after pad", "cli/words.py", 'if rest in ([], [["flip"]]):', "if True:", MISTAKES),
]
