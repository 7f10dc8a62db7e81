"""Faults in experiments, settings tried, results, evidence, accounts and the commands that make them."""

from mutant import Mutant

__all__ = ["REPRODUCTION"]

TUNED, GIVEN, DOCUMENT = "theorems/test_tuning.py", "training/test_experiment.py", "training/test_report.py"
GDU, TUNE, ALL = (f"training/test_cli_{name}.py" for name in ("gdu", "tune", "reproduce"))
RECORDS = "training/test_cli_reproduce_records.py"
TUN, EXP, RES = (f"theorem/{name}.py" for name in ("tuning", "experiment", "result"))
EVI, TAB, PAP, ACC = (f"reproduction/{name}.py" for name in ("evidence", "tables", "paper", "account"))
ANG, BY, ANGLES = "reproduction/angles.py", "plots/by_angle.py", "training/test_error_by_angle.py"
DIVERGED = "training/test_cli_reproduce_divergence.py"
REP, WRK, CLI, SUB, DOC = "cli/reproduce.py", "cli/reproducing.py", "cli/gdu.py", "cli/subject.py", "report.py"

SETTINGS = [
    Mutant(
        "BPTT over the nudged steps in the grid",
        TUN,
        "bptt = whole_gradient(twin, x, target, walked)",
        "bptt = whole_gradient(twin, x, target, walked[-1 - grid.nudged_steps[0] :])",
        TUNED,
    ),
    Mutant("estimate after the longest nudged phase", TUN, "states[steps])) for beta", "states[-1])) for beta", TUNED),
    Mutant(
        "free phase begun anew with the steps that were left",
        TUN,
        "settle(model.network, model.dynamics, drive, states[-1], more",
        "settle(model.network, model.dynamics, drive, state, more",
        TUNED,
    ),
    Mutant(
        "smallest residual of the batches",
        TUN,
        "max(cell.residual for cell in cells)",
        "min(cell.residual for cell in cells)",
        TUNED,
    ),
    Mutant("mean residual of the samples", TUN, "free.residual.max().item()", "free.residual.mean().item()", TUNED),
    Mutant("nudged phases counted once", TUN, "steps + k * grid.phases,", "steps + k,", TUNED),
    Mutant(
        "cheapest whatever was wanted", TUN, "if cell.same_sign >= wanted]", "if cell.same_sign >= 0 * wanted]", TUNED
    ),
    Mutant("cheapest above what was wanted", TUN, "cell.same_sign >= wanted", "cell.same_sign > wanted", TUNED),
    Mutant(
        "worst of the cheapest", TUN, "(cell.cost, cell.relative_error)", "(cell.cost, -cell.relative_error)", TUNED
    ),
    Mutant("best layer for the worst", TUN, "min(agreements[1:]),", "max(agreements[1:]),", TUNED),
    Mutant("readout counted in the grid", TUN, 'if name.startswith("network.")]', "if name]", TUNED),
    Mutant("error relative to EP", TUN, "norm = target.norm().item()", "norm = whole.norm().item()", TUNED),
    Mutant("strengths of the grid not looked at", TUN, "    admit(model, grid.betas)\n", "", TUNED),
    Mutant("last batch alone", TUN, "mean(getattr(cell, name) for cell in cells)", "getattr(cells[-1], name)", TUNED),
    Mutant(
        "nudging of the grid forgotten", "cli/tune.py", "            own.nudging,\n", '            "one-sided",\n', TUNE
    ),
    Mutant(
        "a command that trains another model",
        "cli/tune.py",
        "return same and own.estimator == run.estimator",
        "return True",
        TUNE,
    ),
    Mutant("threads of another moment", "cli/tune.py", "with threads(run.threads), counting(", "with counting(", TUNE),
]

EXPERIMENTS = [
    Mutant("random batch from torch's stream", EXP, "source = generator(seed, BATCH)", "source = None", GIVEN),
    Mutant("random batch from the weights' stream", EXP, "generator(seed, BATCH)", "generator(seed, WEIGHTS)", GIVEN),
    Mutant(
        "a class for each random sample",
        EXP,
        "(1,), generator=source).expand(size)",
        "(size,), generator=source)",
        GIVEN,
    ),
    Mutant("precision ignored", EXP, "dtype=getattr(torch, self.dtype)", "dtype=torch.float32", GIVEN),
    Mutant("batch in single precision", EXP, "return x.to(like), y", "return x.to(like.device), y", GIVEN),
    Mutant(
        "batch of another seed",
        EXP,
        "training_batches(self.data, self.seed, train",
        "training_batches(self.data, 0, train",
        GIVEN,
    ),
    Mutant(
        "batch of held-out samples too",
        EXP,
        "train, *_ = samples(self.data, progress)",
        "train, *_ = samples(replace(self.data, validation=0), progress)",
        GIVEN,
    ),
    Mutant("experiment with more nudged than free steps", EXP, "if nudged > free:", "if False:", GIVEN),
    Mutant(
        "readout read from torch's stream", EXP, "with seeded(0, WEIGHTS):  # a readout", "if True:  # a readout", GIVEN
    ),
    Mutant("trained weights not put in", CLI, "put_weights(model, trained) if trained", '"trained" if trained', GDU),
    Mutant(
        "further strengths at the first one",
        RES,
        "compare(model, back, beta, experiment.nudging",
        "compare(model, back, experiment.estimator.beta, experiment.nudging",
        GIVEN,
    ),
    Mutant(
        "report before the rest",
        RES,
        'write_atomic(folder / "experiment.json", result.experiment.to_json())',
        'write_atomic(folder / "report.json", json.dumps(facts))\n'
        '    write_atomic(folder / "experiment.json", result.experiment.to_json())',
        GIVEN,
    ),
    Mutant(
        "part of a result taken for all of it",
        RES,
        "if not all(file.is_file() for file in files):",
        "if not files[0].is_file():",
        GIVEN,
    ),
    Mutant(
        "damage as it comes",
        RES,
        "except (OSError, ValueError, TypeError, AttributeError) as error:",
        "except KeyError as error:",
        GIVEN,
    ),
    Mutant(
        "folder made before there is anything to keep",
        CLI,
        "    vacant(options.out)\n",
        "    vacant(options.out)\n    options.out and options.out.mkdir(exist_ok=True)\n",
        GDU,
    ),
    Mutant("an error of numbers as a mistake", CLI, "raise Failed(f", "raise ValueError(f", GDU),
    Mutant("full disk as a mistake", SUB, "if error.errno not in NO_ROOM:", "if True:", GDU),
    Mutant("what is in the way seen too late", SUB, "    makeable(out)\n", "", GDU),
]

ACCOUNTS = [
    Mutant(
        "experiment of another configuration taken",
        EVI,
        "same = result.experiment.to_json() == check.experiment.to_json()",
        "same = result.experiment.name == check.experiment.name",
        ALL,
    ),
    Mutant("experiment without its strengths taken", EVI, "set(check.betas) <= betas", "True", ALL),
    Mutant("experiment on trained weights taken", EVI, "result.weights == INITIAL", "True", RECORDS),
    Mutant("damaged result taken for an error", EVI, "except DamagedError:", "except KeyError:", ALL),
    Mutant(
        "training of another configuration taken",
        EVI,
        "return replace(run, seed=0).to_json()",
        "return run.name + run.method",
        RECORDS,
    ),
    Mutant(
        "training of one seed alone taken",
        EVI,
        "return replace(run, seed=0).to_json()",
        "return run.to_json()",
        RECORDS,
    ),
    Mutant("training half done taken", EVI, "if len(rows) == run.epochs:", "if rows:", ALL),
    Mutant("fresh takes from the records", REP, "[] if options.fresh or not", "[] if not", RECORDS),
    Mutant("quick takes from the records", WRK, "None if work.quick else taken(", "None if False else taken(", RECORDS),
    Mutant("what is there is done again", WRK, "if result_in(place, check) is None or (", "if True or (", ALL),
    Mutant("all seeds trained again", REP, "if seed not in done]", "if seed + 1]", ALL),
    Mutant(
        "quick and whole trainings in one folder",
        PAP,
        "return f\"{'-'.join(word.removeprefix('--').replace('.', '-') for word in words)}/",
        'return f"{words[0]}/',
        RECORDS,
    ),
    Mutant(
        "training of another configuration gone on with",
        WRK,
        "elif read_run(folder).to_json() != row.seed(seed).to_json():",
        "elif False:",
        ALL,
    ),
    Mutant(
        "missing data stop the rest",
        WRK,
        "except (FileNotFoundError, DataError) as error:",
        "except KeyError as error:",
        RECORDS,
    ),
    Mutant(
        "message of missing data in the account",
        WRK,
        "found.reasons[key] = (\n",
        "found.reasons[key] = str(error) or (\n",
        RECORDS,
    ),
    Mutant("BPTT's row trained by EP", PAP, "Row(baseline(own.run), f", "Row(own.run, f", RECORDS),
    Mutant(
        "reduced rows in the whole table",
        "reproduction/ernoult2019.py",
        "for row in with_baseline(name))",
        "for row in with_baseline(name, 1))",
        RECORDS,
    ),
    Mutant(
        "published errors of BPTT beside EP",
        "recipes/__init__.py",
        "(p.recipe, p.method, p.angle) == (run.name, method, angle)",
        "p.recipe == run.name and method",
        ALL,
    ),
    Mutant("residual for the angle", TAB, "s['angle']:.2g", "s['residual']:.2g", ALL),
    Mutant("a failing assumption not told", TAB, 'if not assumption["holds"]]', "if False]", ALL),
    Mutant(
        "more is better", ACC, "100 * summary.test.mean <= known.test", "100 * summary.test.mean >= known.test", ALL
    ),
    Mutant("letters of HTML in a text", DOC, "escape(text, quote=False)", "text", DOCUMENT),
    Mutant(
        "pictures beside the page", DOC, 'src="data:image/svg+xml;base64,{data}"', 'src="{item.path}.svg"', DOCUMENT
    ),
    Mutant("absolute links", DOC, ".relative_to(folder).as_posix()", ".absolute().as_posix()", DOCUMENT),
    Mutant(
        "marks within code",
        DOC,
        'return f"<code>{code}</code>"',
        'return f"<code>{MARKS.sub(marked, code)}</code>"',
        DOCUMENT,
    ),
    Mutant("bars that part cells", DOC, """.replace("|", r"\\|")""", "", DOCUMENT),
]

BY_ANGLE = [
    Mutant("one definition of the angle for both", ANG, "[p.name][which]", '[p.name]["angle"]', ANGLES),
    Mutant(
        "published angles by the other definition",
        ANG,
        'which == "without_first" else {})',
        'which == "angle" else {})',
        ANGLES,
    ),
    Mutant("points without an angle", ANG, "if p.name in angles and found", "if found", ANGLES),
    Mutant("what is missing not named", ANG, "if p.name not in errors:", "if p.name in errors:", ANGLES),
    Mutant("trainings from an angle of 0 alone", ANG, "    if not known.angle:\n", "    if True:\n", ANGLES),
    Mutant(
        "studies from an angle of 0 alone",
        "reproduction/studies.py",
        "replace(rule, model=replace(rule.model, angle=known.angle))",
        "rule",
        ANGLES,
    ),
    Mutant("bars as long as the largest", BY, "max(values[axis]) - m", "max(values[axis])", ANGLES),
    Mutant("bars of angles upwards", BY, "*middles, bars[1], bars[0],", "*middles, bars[0], bars[1],", ANGLES),
    Mutant("bars below zero", BY, "min(deviation, 0.8 * error)", "deviation", ANGLES),
]

DIVERGENCE = [
    Mutant("after one that diverges no other", WRK, "folders[folders.index(stop.folder) + 1 :]", "[]", DIVERGED),
    Mutant("another seed named", WRK, "seeds[folders.index(stop.folder)]", "seeds[0]", DIVERGED),
    Mutant(
        "what diverged is owed",
        WRK,
        "not found.trainings.get(row.command) and row.command not in found.diverged",
        "not found.trainings.get(row.command)",
        DIVERGED,
    ),
    Mutant("what diverged not run yet", TAB, "diverged or found.reasons", "found.reasons", DIVERGED),
    Mutant(
        "what diverged left out beside the rest",
        TAB,
        "(str(summary.seeds), diverged)",
        "(str(summary.seeds),)",
        DIVERGED,
    ),
]

REPRODUCTION = [*SETTINGS, *EXPERIMENTS, *ACCOUNTS, *BY_ANGLE, *DIVERGENCE]
