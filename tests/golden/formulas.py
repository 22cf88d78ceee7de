"""Checks of the fixtures that need no network: pure functions of numbers."""

import torch
from modules import build_config, build_return_norm

from dreamer.behavior.actor_critic import dream_losses, replay_value_loss
from dreamer.behavior.returns import lambda_return, quantile
from dreamer.distributions import (BoundedNormal, Categorical, latent_kl, make_bins, symexp, symlog,
                                   twohot_loss, twohot_mean, unimix)
from dreamer.optimizer import LaProp
from dreamer.world_model.model import kl_losses


def check_symlog(fixture):
    fixture.compare("out_symlog_x", symlog(fixture["in_x"]))
    fixture.compare("out_symexp_symlog_x", symexp(fixture["out_symlog_x"]))
    fixture.compare("out_symexp_y", symexp(fixture["in_y"]))


def check_twohot(fixture):
    logits = fixture["in_logits"]
    ours, bins = make_bins(logits.shape[-1]), fixture["out_bins"]
    fixture.compare("out_bins", ours)
    fixture.compare_zero("out_bins", ours + ours.flip(0))
    uniform = logits[logits.amax(-1) == logits.amin(-1)]
    fixture.compare_zero("out_mean", twohot_mean(uniform, ours))
    # From here on the recorded bins: a target that lies on one of them must not fall beside it.
    fixture.compare_mean("out_mean", twohot_mean(logits, bins), logits, bins)
    fixture.compare("out_loss", twohot_loss(logits.log_softmax(-1), fixture["in_target"], bins))
    target = fixture["in_special_target"]
    special = fixture["in_special_logits"].log_softmax(-1).expand(len(target), -1)
    fixture.compare("out_special_loss", twohot_loss(special, target, bins))


def check_kl(fixture):
    mix = fixture.number("in_cfg_unimix")
    logits = {side: fixture[f"in_{side}_logits"].requires_grad_() for side in ("post", "prior")}
    post, prior = logits.values()
    for side, raw in logits.items():
        fixture.compare(f"out_{side}_probs", unimix(raw, mix))
        fixture.compare(f"out_{side}_entropy", Categorical(raw, mix).entropy().sum(-1))
    fixture.compare("out_kl", latent_kl(post, prior, mix))
    dyn, rep, _ = kl_losses(post, prior, mix, fixture.number("in_cfg_free_nats"))
    for name, loss, trained, fixed in (("dyn", dyn, "prior", "post"), ("rep", rep, "post", "prior")):
        fixture.compare(f"out_{name}_loss", loss)
        grad, none = gradients(loss, logits[trained], logits[fixed])
        fixture.compare_gradient(f"out_grad_sum_{name}_wrt_{trained}_logits", grad)
        fixture.compare_zero(f"gradient of {name} by {fixed}", none)


def gradients(loss, *inputs):
    """Gradient of the sum of `loss` by each input; zeros where it does not depend on it."""
    found = torch.autograd.grad(loss.sum(), inputs, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for x, g in zip(inputs, found)]


def check_bounded_normal(fixture):
    limits = fixture.number("in_cfg_minstd"), fixture.number("in_cfg_maxstd")
    mean, std, action = fixture["in_raw_mean"], fixture["in_raw_std"], fixture["in_action"]
    policy = BoundedNormal(mean, std, *limits)
    fixture.compare("out_mean", policy.mean)
    fixture.compare("out_std", policy.std)
    fixture.compare("out_log_prob", policy.log_prob(action))
    fixture.compare("out_entropy", policy.entropy())
    single = BoundedNormal(mean.unsqueeze(-1), std.unsqueeze(-1), *limits)      # A actions of one number
    fixture.compare("out_log_prob_per_dim", single.log_prob(action.unsqueeze(-1)))
    fixture.compare("out_entropy_per_dim", single.entropy())


def check_lambda_return(fixture):
    for i in range(fixture.number("in_num_cases")):
        case = f"in_case{i}_"
        reward, terminal, last, bootstrap = (fixture[case + k].float().T for k in ("rew", "term", "last", "boot"))
        scalars = fixture.number(case + "disc"), fixture.number(case + "lam")
        returns = lambda_return(reward, terminal, last, bootstrap, *scalars)
        # Large rewards of either sign may cancel: the return of their magnitudes is what was added.
        terms = lambda_return(reward.abs(), terminal, last, bootstrap.abs(), *scalars)
        fixture.compare(f"out_case{i}_ret", returns.T, terms.T)


def check_return_norm(fixture):
    norm, seen = build_return_norm(fixture, "in_cfg_"), []
    for returns in fixture["in_returns"]:
        percentiles = quantile(returns.flatten().sort().values, norm.quantiles)
        scale = norm.update(returns)
        low, high = norm.range.tolist()
        seen.append([*percentiles, low, high, low, scale])
    names = ("batch_perclo", "batch_perchi", "state_low", "state_high", "offset", "scale")
    for name, values in zip(names, torch.tensor(seen).T):
        fixture.compare(f"out_{name}", values)


def check_optimizer(fixture):
    cfg = {name: fixture.number(f"in_cfg_{name}")
           for name in ("lr", "warmup", "agc", "agc_pmin", "beta1", "beta2", "eps")}
    names = [name[len("param_"):] for name in fixture.arrays if name.startswith("param_")]
    parameters = [fixture[f"param_{name}"].requires_grad_() for name in names]
    optimizer = LaProp(parameters, *cfg.values())
    history = {name: [] for name in names}
    for step in range(len(fixture[f"in_grad_{names[0]}"])):
        for name, parameter in zip(names, parameters):
            parameter.grad = fixture[f"in_grad_{name}"][step]
        optimizer.step()
        for name, parameter in zip(names, parameters):
            history[name].append(parameter.detach().clone())
    for name, values in history.items():
        fixture.compare(f"out_{name}", torch.stack(values))


def check_actor_critic(fixture):
    for group in ("disc", "cont"):
        if f"in_{group}_rew" in fixture:
            check_dream(fixture, group)
    if "in_repl_rew" in fixture:
        check_replay(fixture)


def check_dream(fixture, group):
    """The losses in dreams; `group`: discrete or continuous policy. Arrays are (N, H+1, ...)."""
    policy, action, raw = read_policy(fixture, group)
    rew, con, logits, slow_logits = (fixture[f"in_{group}_{k}"] for k in ("rew", "con", "value_logits", "slow_value_logits"))
    bins, config = make_bins(logits.shape[-1]), build_config(fixture)
    value, slow = twohot_mean(logits, bins), twohot_mean(slow_logits, bins)
    norm = build_return_norm(fixture, before=f"in_{group}_retnorm")
    raw = {name: x.transpose(0, 1).requires_grad_() for name, x in raw.items()}     # (H+1, N, A)
    acting, action = policy(*(x[:-1] for x in raw.values())), action.transpose(0, 1)
    critic = logits.transpose(0, 1).requires_grad_()                                # (H+1, N, K)
    policy_loss, value_loss, returns, metrics = dream_losses(
        rew.T, con.T, value.T, slow.T[:-1], acting, action[:-1], critic[:-1], bins, norm,
        config.lam, config.entropy, config.slow_regulariser)
    out, everywhere = f"out_{group}_", policy(*raw.values())
    fixture.compare_mean(out + "value_mean", value, logits, bins)
    fixture.compare_mean(out + "slow_value_mean", slow, slow_logits, bins)
    results = dict(
        ret=returns.T, policy_loss=policy_loss.T, value_loss=value_loss.T,
        action_log_prob=everywhere.log_prob(action).T, policy_entropy=everywhere.entropy().T,
        retnorm_low_after=norm.range[0], retnorm_high_after=norm.range[1],
        metric_adv_mean=metrics["advantage_mean"], metric_weight_mean=metrics["alive_mean"],
        metric_ret_normed_mean=metrics["return_normed_mean"], metric_ret_rate=metrics["return_beyond"])
    for name, ours in results.items():
        fixture.compare(out + name, ours)
    check_dream_gradients(fixture, out + "grad_sum_", policy_loss, value_loss, raw, critic)


def check_dream_gradients(fixture, prefix, policy_loss, value_loss, raw, critic):
    """Each loss trains its own network: the actor through `raw`, the critic through its logits."""
    *by_raw, none = gradients(policy_loss, *raw.values(), critic)
    for name, grad in zip(raw, by_raw):
        fixture.compare_gradient(f"{prefix}policy_loss_wrt_{name}", grad.transpose(0, 1))
    fixture.compare_zero("gradient of policy loss by critic", none)
    grad, = gradients(value_loss, critic)
    fixture.compare_gradient(f"{prefix}value_loss_wrt_value_logits", grad.transpose(0, 1))


def read_policy(fixture, group):
    """Kind of policy, actions (N, H+1, A), and the policy's raw inputs by name."""
    if group == "cont":
        names = ("raw_mean", "raw_std")
        return BoundedNormal, fixture["in_cont_action"], {k: fixture[f"in_cont_policy_{k}"] for k in names}
    logits = fixture["in_disc_policy_logits"]
    action = torch.nn.functional.one_hot(fixture["in_disc_action"], logits.shape[-1]).float()
    return (lambda raw: Categorical(raw, 0)), action, {"policy_logits": logits}


def check_replay(fixture):
    """The critic's loss on replayed sequences. Arrays are (B, T, ...)."""
    config = build_config(fixture)
    reward, terminal, last, bootstrap = (fixture[f"in_repl_{k}"].float().T for k in ("rew", "term", "last", "boot"))
    logits = fixture["in_repl_value_logits"].transpose(0, 1).requires_grad_()
    bins = make_bins(logits.shape[-1])
    slow = twohot_mean(fixture["in_repl_slow_value_logits"], bins).T
    loss = replay_value_loss(reward, terminal, last, bootstrap, logits, slow, bins,
                             config.discount, config.lam, config.slow_regulariser)
    returns = lambda_return(reward, terminal, last, bootstrap, config.discount, config.lam)
    fixture.compare("out_repl_ret", returns.T)
    fixture.compare("out_repl_repval_loss", loss.T)
    fixture.compare_gradient("out_repl_grad_sum_repval_loss_wrt_value_logits",
                             gradients(loss, logits)[0].transpose(0, 1))
