"""The high level of HMASD: a transformer that gives a skill to the team, then one to each agent.

It is from Yang et al. 2023 (NeurIPS), section 4.1 and Eq. 6. Axes: B samples (decisions), A agents, J = A + 1
tokens (the team's is the first), S state features, O observation features, W token features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lit_rl.algos.hmasd.decisions import Decisions
from lit_rl.algos.hmasd.transformer import (
    DecoderBlock,
    EncoderBlock,
    Reduction,
    embedding,
    head,
    one_hot,
)
from lit_rl.distributions import MASKED_LOGIT, Categorical
from lit_rl.flat import FlatAdam
from lit_rl.losses import approximate_kl, clipped_surrogate, clipped_value_loss, value_loss, weighted_mean
from lit_rl.ranks import Ranks


class SkillCoordinator(nn.Module):
    """Decides by pi_h(Z | s, o) and pi_h(z^i | s, o, Z, z^1..z^{i-1}), and values each of these skills.

    The encoder turns the state and the observations of the agents into J = A + 1 tokens, and a value head
    reads each of them. The decoder is autoregressive: from a start symbol it decides Z, then z^1 to z^A.

    Args:
        n_Z: Number of team skills.
        n_z: Number of skills of an agent.
        width: Number of features W of a token.
        num_blocks: Number of blocks in the encoder, and in the decoder.
        heads: Number of heads of each attention.
        learning_rate: Step size of Adam.
        update_epochs: Passes over the decisions of a rollout, all of them in one minibatch.
        clip: Half width of the trusted interval of the probability ratio.
        clip_value: Half width of the trusted interval of the value; None does not clip.
        huber_delta: Value errors beyond this count linearly, not squared; None squares all.
        value_coef: Weight of the value loss.
        entropy_coef: Weight lambda_h of the entropy of the decisions.
        reduction: Whether the losses of a decision's tokens are averaged or added.
    """

    def __init__(
        self,
        n_Z: int,
        n_z: int,
        width: int = 64,
        num_blocks: int = 1,
        heads: int = 1,
        learning_rate: float = 5e-4,
        update_epochs: int = 15,
        clip: float = 0.2,
        clip_value: float | None = 0.2,
        huber_delta: float | None = 10.0,
        value_coef: float = 1.0,
        entropy_coef: float = 0.1,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        self.n_Z, self.n_z, self.width, self.num_blocks, self.heads = n_Z, n_z, width, num_blocks, heads
        self.learning_rate, self.update_epochs = learning_rate, update_epochs
        self.clip, self.clip_value, self.huber_delta = clip, clip_value, huber_delta
        self.value_coef, self.entropy_coef = value_coef, entropy_coef
        self.reduction: Reduction = reduction
        self.categories = max(n_Z, n_z)
        self.skill = Categorical(self.categories)

    def build(self, state: int, observation: int) -> None:
        """Create the networks, for ``state`` features S and ``observation`` features O."""
        width = self.width
        self.embed_state, self.embed_obs = embedding(state, width), embedding(observation, width)
        self.norm_encoder, self.norm_decoder = nn.LayerNorm(width), nn.LayerNorm(width)
        self.encoder = nn.ModuleList(EncoderBlock(width, self.heads) for _ in range(self.num_blocks))
        self.decoder = nn.ModuleList(DecoderBlock(width, self.heads) for _ in range(self.num_blocks))
        # one symbol more than there are skills: the first is the start symbol
        self.embed_skill = nn.Sequential(nn.Linear(self.categories + 1, width, bias=False), nn.GELU())
        nn.init.orthogonal_(self.embed_skill[0].weight, 2**0.5)  # type: ignore[arg-type]
        self.value_head, self.skill_head = head(width, 1), head(width, self.categories)

    def encode(self, state_BS: Tensor, obs_BAO: Tensor) -> Tensor:
        """Encode the state and each observation as tokens, (B, J, W)."""
        state, obs = self.embed_state(state_BS).unsqueeze(-2), self.embed_obs(obs_BAO)
        token_BJW = self.norm_encoder(torch.cat([state, obs], -2))
        for block in self.encoder:
            token_BJW = block(token_BJW)
        return token_BJW

    def value(self, encoded_BJW: Tensor) -> Tensor:
        """Compute the value V_h of each token, (B, J)."""
        return self.value_head(encoded_BJW).squeeze(-1)

    def logits(self, encoded_BJW: Tensor, before: Tensor) -> Tensor:
        """Compute logits (B, J', categories) of the first J' tokens.

        Args:
            encoded_BJW: What :meth:`encode` returned.
            before: Skills decided before the last of them, (B, J' - 1) int64, the team's first.
        """
        tokens = before.shape[1] + 1
        symbols = nn.functional.pad(before + 1, (1, 0))  # the start symbol is 0
        x = self.norm_decoder(self.embed_skill(one_hot(symbols, self.categories + 1, encoded_BJW.dtype)))
        for block in self.decoder:
            x = block(x, encoded_BJW[:, :tokens])
        return self._masked(self.skill_head(x))

    def _masked(self, logits: Tensor) -> Tensor:
        """Forbid skills that do not exist: the team and its agents may differ in their number of skills."""
        if self.n_Z == self.n_z:
            return logits
        allowed = torch.full((logits.shape[1], 1), self.n_z, device=logits.device)
        allowed[0] = self.n_Z
        absent = torch.arange(self.categories, device=logits.device) >= allowed  # (J', categories)
        return logits.masked_fill(absent, MASKED_LOGIT)

    @torch.no_grad()
    def decide(self, state_BS: Tensor, obs_BAO: Tensor, greedy: bool) -> tuple[Tensor, Tensor]:
        """Decide the skills one after the other.

        Returns:
            Skills (B, J) int64, the team's first, and their log-probabilities (B, J).
        """
        encoded = self.encode(state_BS, obs_BAO)
        skills = torch.empty(encoded.shape[0], 0, dtype=torch.int64, device=encoded.device)
        for _ in range(encoded.shape[1]):
            logits = (self.logits(encoded, skills)[:, -1],)
            skill = self.skill.mode(logits) if greedy else self.skill.sample(logits)
            skills = torch.cat([skills, skill.unsqueeze(1)], 1)
        return skills, self.skill.log_prob((self.logits(encoded, skills[:, :-1]),), skills)

    def forward(self, state_BS: Tensor, obs_BAO: Tensor, skills_BJ: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute log-probability and entropy of decided skills, and values, each (B, J), in one pass."""
        encoded = self.encode(state_BS, obs_BAO)
        logits = (self.logits(encoded, skills_BJ[:, :-1]),)
        return *self.skill.log_prob_and_entropy(logits, skills_BJ), self.value(encoded)

    def learn(
        self, decisions: Decisions, optimizer: FlatAdam, ranks: Ranks, factor: float = 1.0
    ) -> dict[str, Tensor]:
        """Train for all epochs on all decisions, by the loss L_h of Eq. 6.

        Args:
            decisions: Decisions of one rollout.
            optimizer: The optimizer of this network.
            ranks: The processes over whose decisions losses are averaged.
            factor: Multiplies learning rate and ``clip``.

        Returns:
            ``policy``, ``value`` and ``total`` loss, means over the epochs; and ``kl`` of the last epoch.
        """
        optimizer.param_groups[0]["lr"] = self.learning_rate * factor
        logged: list[Tensor] = []
        log_ratio_BJ = torch.zeros_like(decisions.log_prob)
        # ranks may differ in their number of decisions: the mean over ranks shall be that over all decisions
        tokens = decisions.weight.sum()
        share = tokens / ranks.mean(tokens)
        for _ in range(self.update_epochs):
            *losses, log_ratio_BJ = self._loss(decisions, self.clip * factor)
            policy, value, total = (share * loss for loss in losses)
            optimizer.minimize(total)
            logged.append(torch.stack([policy, value, total]).detach())
        policy, value, total = torch.stack(logged).mean(0).unbind()
        kl = approximate_kl(log_ratio_BJ, decisions.weight)
        return {"policy": policy, "value": value, "total": total, "kl": kl}

    def _loss(self, decisions: Decisions, clip: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Compute policy, value and total loss, and the logarithms of the probability ratios (B, J)."""
        log_prob_BJ, entropy_BJ, value_BJ = self(decisions.state, decisions.obs, decisions.skills)
        weight_BJ, target_BJ, old_log_prob_BJ = decisions.weight, decisions.target, decisions.log_prob
        policy_loss = clipped_surrogate(log_prob_BJ, old_log_prob_BJ, decisions.advantage, clip, weight_BJ)
        if self.clip_value is None:
            error = value_loss(value_BJ, target_BJ, weight_BJ, self.huber_delta)
        else:
            error = clipped_value_loss(
                value_BJ, decisions.value, target_BJ, self.clip_value, weight_BJ, self.huber_delta
            )
        entropy = weighted_mean(entropy_BJ, weight_BJ)
        total = policy_loss + self.value_coef * error - self.entropy_coef * entropy
        if self.reduction == "sum":
            total = total * weight_BJ.shape[1]
        return policy_loss, error, total, (log_prob_BJ - old_log_prob_BJ).detach()
