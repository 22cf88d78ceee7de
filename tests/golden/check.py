"""Run every recorded fixture in a folder against `dreamer`: python tests/golden/check.py [DIR]

One line per fixture: verdict, name, functions under test, largest error of each rule with its
tolerance. The exit code is 1 if any fixture is out of tolerance or not covered by a check.
"""

import sys
from pathlib import Path
from typing import Callable, NamedTuple

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

import formulas  # noqa: E402
import networks  # noqa: E402
from counts import check_counts  # noqa: E402
from fixture import Fixture  # noqa: E402


class Check(NamedTuple):
    run: Callable           # compares all outputs of a Fixture
    tolerance: float        # ten times the error of a float64 recomputation (README.md)
    functions: str          # what of `dreamer` is under test


CHECKS = {
    "symlog_symexp": Check(formulas.check_symlog, 5.6e-7, "symlog, symexp"),
    "twohot": Check(formulas.check_twohot, 1.2e-5, "make_bins, twohot_mean, twohot_loss"),
    "categorical_kl": Check(formulas.check_kl, 5.8e-6, "unimix, Categorical.entropy, latent_kl, kl_losses"),
    "bounded_normal": Check(formulas.check_bounded_normal, 8.3e-6, "BoundedNormal"),
    "lambda_return": Check(formulas.check_lambda_return, 1.6e-5, "lambda_return"),
    "return_norm": Check(formulas.check_return_norm, 8.8e-5, "ReturnNorm, quantile"),
    "imag_repl_loss": Check(formulas.check_actor_critic, 1.3e-5, "dream_losses, replay_value_loss, lambda_return"),
    "optimizer": Check(formulas.check_optimizer, 5.6e-6, "LaProp"),
    "rssm": Check(networks.check_rssm, 1.7e-5, "RSSM.observe, RSSM.prior, RSSM.imagine"),
    "vector_encoder_decoder": Check(networks.check_vector, 5.3e-6, "Encoder, Decoder, Decoder.loss"),
    "image_encoder_decoder": Check(networks.check_image, 1.5e-5, "ImageEncoder, ImageDecoder, Decoder.loss"),
    "world_model_loss": Check(networks.check_world_model, 6.2e-6, "WorldModel.loss, Agent.total"),
    "agent_loss_grad": Check(networks.check_world_model, 9.9e-7, "gradients of WorldModel.loss"),
    "agent_full_loss": Check(networks.check_agent, 1.3e-5, "Agent.loss and its gradients, imagine"),
}


def find(name):
    """The check for a file of this name; `rssm_other` is checked like `rssm`. None if there is none."""
    known = [topic for topic in CHECKS if name == topic or name.startswith(topic + "_")]
    return CHECKS[max(known, key=len)] if known else None


def run(path):
    """Check one file: (ok, functions under test, verdict)."""
    functions = "-"
    try:
        if path.name == "param_counts.json":
            functions = "Agent"
            ok, verdict = check_counts(path)
            return ok, functions, verdict
        check = find(path.stem)
        if check is None:
            return False, functions, "not covered by a check"
        functions, fixture = check.functions, Fixture(path, check.tolerance)
        check.run(fixture)
        return fixture.ok, functions, fixture.verdict()
    except Exception as error:      # a broken file must not hide the verdict on the others
        return False, functions, f"{type(error).__name__}: {error}".splitlines()[0]


def main(folder):
    folder = Path(folder)
    paths = sorted([*folder.glob("*.npz"), *folder.glob("param_counts.json")])
    failed = 0
    for path in paths:
        ok, functions, verdict = run(path)
        failed += not ok
        print(f"{'ok    ' if ok else 'NOT OK'}  {path.name}  [{functions}]  {verdict}", flush=True)
    print(f"{len(paths) - failed} of {len(paths)} fixtures in {folder} agree.")
    return int(failed > 0 or not paths)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else HERE))
