"""The demo's text network in PyTorch: the decoder of Qwen3-VL-MoE, written for training on a few CPU cores.

Parameter names and layouts are those of the MLX folder without its ``language_model.`` prefix, so that export is a
copy. Text positions of Qwen3-VL's three-axis rotary embedding are equal on all axes, which is plain rotary embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BLOCK = 256  # expert blocks are rounded up to this many tokens in training


@dataclass(frozen=True)
class Shape:
    """Sizes of the network; the names are those of config.json's ``text_config``."""

    vocab_size: int
    hidden_size: int = 256
    num_hidden_layers: int = 6
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    head_dim: int = 64
    num_experts: int = 16
    num_experts_per_tok: int = 2
    moe_intermediate_size: int = 96
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0


class Place(torch.autograd.Function):
    """Rows (N, C) into a zero table (size, C) at distinct ``slots`` (N,); the gradient is a plain gather."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, slots: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(slots)
        return rows.new_zeros(size, rows.shape[1]).index_copy_(0, slots, rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0].index_select(0, ctx.saved_tensors[0]), None, None


class Take(torch.autograd.Function):
    """Rows of a table (size, C) at distinct ``slots`` (N,): `Place` turned round."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, slots: Tensor) -> Tensor:
        ctx.save_for_backward(slots)
        ctx.size = len(table)
        return table.index_select(0, slots)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        rows = gradients[0]
        return rows.new_zeros(ctx.size, rows.shape[1]).index_copy_(0, ctx.saved_tensors[0], rows), None


def rotary_table(length: int, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosine and sine, float32 (length, head_dim), for positions 0..length-1."""
    frequencies = theta ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    angles = torch.arange(length, dtype=torch.float64)[:, None] * frequencies
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos().float(), angles.sin().float()


def rotate(x_BHTD: Tensor, cos_TD: Tensor, sin_TD: Tensor) -> Tensor:
    """Apply the rotary embedding, halves paired."""
    first, second = x_BHTD.chunk(2, dim=-1)
    return x_BHTD * cos_TD + torch.cat([-second, first], dim=-1) * sin_TD


class HeadLoss(torch.autograd.Function):
    """Summed cross-entropy of ``hidden @ head.T`` in chunks small enough for the cache; gradients are made on the way.

    Rows whose target is negative count nothing.
    """

    CHUNK = 128

    @staticmethod
    def forward(ctx: Any, hidden_NC: Tensor, head_VC: Tensor, target_N: Tensor) -> Tensor:
        hidden_gradient = torch.empty_like(hidden_NC)
        head_gradient = torch.zeros(head_VC.shape, dtype=torch.float32)
        loss = torch.zeros((), dtype=torch.float64)
        for first in range(0, len(hidden_NC), HeadLoss.CHUNK):
            rows = slice(first, first + HeadLoss.CHUNK)
            valid = target_N[rows, None] >= 0
            target = target_N[rows, None].clamp(min=0)
            logits = (hidden_NC[rows] @ head_VC.T).float()
            logits -= logits.amax(-1, keepdim=True)
            picked = logits.gather(1, target)
            share = logits.exp_()
            total = share.sum(-1, keepdim=True)
            loss += ((total.log() - picked) * valid).sum()
            share *= valid / total
            share.scatter_add_(1, target, -valid.float())
            share = share.to(hidden_NC.dtype)
            hidden_gradient[rows] = share @ head_VC
            head_gradient += share.T @ hidden_NC[rows]
        ctx.save_for_backward(hidden_gradient, head_gradient.to(head_VC.dtype))
        return loss.float()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        hidden_gradient, head_gradient = ctx.saved_tensors
        return hidden_gradient * gradients[0], head_gradient * gradients[0], None


class Attention(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        query = shape.num_attention_heads * shape.head_dim
        key = shape.num_key_value_heads * shape.head_dim
        self.q_proj = nn.Linear(shape.hidden_size, query, bias=False)
        self.k_proj = nn.Linear(shape.hidden_size, key, bias=False)
        self.v_proj = nn.Linear(shape.hidden_size, key, bias=False)
        self.o_proj = nn.Linear(query, shape.hidden_size, bias=False)
        self.q_norm = nn.RMSNorm(shape.head_dim, eps=shape.rms_norm_eps)
        self.k_norm = nn.RMSNorm(shape.head_dim, eps=shape.rms_norm_eps)

    def forward(self, x_BTC: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, _ = x_BTC.shape

        def heads(y: Tensor) -> Tensor:
            return y.view(batch, length, -1, self.shape.head_dim).transpose(1, 2)

        query = rotate(self.q_norm(heads(self.q_proj(x_BTC))), cos, sin)
        key = rotate(self.k_norm(heads(self.k_proj(x_BTC))), cos, sin)
        value = heads(self.v_proj(x_BTC))
        # Plain products: on short rows three times faster than the fused attention of PyTorch's CPU build. The query
        # heads that share a key head lie one below the other.
        shape = self.shape
        sharing = shape.num_attention_heads // shape.num_key_value_heads
        groups = batch * shape.num_key_value_heads
        query = query.reshape(groups, sharing * length, shape.head_dim)
        key, value = (y.reshape(groups, length, shape.head_dim) for y in (key, value))
        future = query.new_full((length, length), float("-inf")).triu_(1).repeat(sharing, 1)
        share = torch.baddbmm(future, query, key.mT, alpha=shape.head_dim**-0.5).softmax(-1)
        mixed = torch.bmm(share, value).view(batch, shape.num_attention_heads, length, shape.head_dim)
        return self.o_proj(mixed.transpose(1, 2).reshape(batch, length, -1))


class Switch(nn.Module):
    """One linear map an expert, weight (experts, out, in)."""

    def __init__(self, experts: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(experts, outputs, inputs))


class Experts(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        sizes = (shape.num_experts, shape.hidden_size, shape.moe_intermediate_size)
        self.gate_proj = Switch(sizes[0], sizes[1], sizes[2])
        self.up_proj = Switch(sizes[0], sizes[1], sizes[2])
        self.down_proj = Switch(sizes[0], sizes[2], sizes[1])


class SparseMlp(nn.Module):
    """Router and experts; ``balance`` is the load-balancing loss of the last forward pass (1 when even)."""

    balance: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.gate = nn.Linear(shape.hidden_size, shape.num_experts, bias=False)
        self.switch_mlp = Experts(shape)

    def forward(self, x_BTC: Tensor) -> Tensor:
        x = x_BTC.reshape(-1, x_BTC.shape[-1])
        chosen_per_token, experts = self.shape.num_experts_per_tok, self.shape.num_experts
        share_NE = self.gate(x).float().softmax(-1)
        score_NK, expert_NK = share_NE.topk(chosen_per_token, dim=-1)
        score_NK = score_NK / score_NK.sum(-1, keepdim=True)
        flat = expert_NK.reshape(-1)
        counts = torch.bincount(flat, minlength=experts)
        self.balance = experts * (counts / counts.sum() * share_NE.mean(0)).sum()
        # One slot a token in its expert's block. Blocks have one of few sizes: a matrix product of a new shape
        # costs a kernel compilation.
        block = -(-int(counts.max()) // BLOCK) * BLOCK
        order = torch.argsort(flat, stable=True)
        rank = torch.arange(len(flat)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
        slots = torch.empty_like(order)
        slots[order] = flat[order] * block + rank
        repeated = x[:, None].expand(-1, chosen_per_token, -1).reshape(-1, x.shape[-1])
        table = Place.apply(repeated, slots, experts * block).view(experts, block, -1)
        gate, up, down = (
            m.weight.transpose(1, 2)
            for m in (self.switch_mlp.gate_proj, self.switch_mlp.up_proj, self.switch_mlp.down_proj)
        )
        table = torch.bmm(F.silu(torch.bmm(table, gate)) * torch.bmm(table, up), down)
        mixed = Take.apply(table.view(experts * block, -1), slots).view(-1, chosen_per_token, x.shape[-1])
        return (mixed * score_NK[..., None].to(mixed.dtype)).sum(1).view_as(x_BTC)


class Layer(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.self_attn = Attention(shape)
        self.mlp = SparseMlp(shape)
        self.input_layernorm = nn.RMSNorm(shape.hidden_size, eps=shape.rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(shape.hidden_size, eps=shape.rms_norm_eps)

    def forward(self, x_BTC: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x_BTC = x_BTC + self.self_attn(self.input_layernorm(x_BTC), cos, sin)
        return x_BTC + self.mlp(self.post_attention_layernorm(x_BTC))


class Decoder(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.num_hidden_layers))
        self.norm = nn.RMSNorm(shape.hidden_size, eps=shape.rms_norm_eps)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Hidden states (B, T, hidden_size) after the last norm."""
        cos, sin = rotary_table(tokens_BT.shape[1], self.shape.head_dim, self.shape.rope_theta)
        x_BTC = self.embed_tokens(tokens_BT)
        cos, sin = cos.to(x_BTC.dtype), sin.to(x_BTC.dtype)
        for layer in self.layers:
            x_BTC = layer(x_BTC, cos, sin)
        return self.norm(x_BTC)


class Network(nn.Module):
    """The text part of the demo model; ``forward`` gives logits (B, T, vocab_size)."""

    def __init__(self, shape: Shape, seed: int = 0) -> None:
        super().__init__()
        self.shape = shape
        self.model = Decoder(shape)
        self.lm_head = nn.Linear(shape.hidden_size, shape.vocab_size, bias=False)
        generator = torch.Generator().manual_seed(seed)
        for name, weight in self.named_parameters():
            if weight.ndim > 1:
                # Unit-variance maps; the branch ends start small so that depth does not blow up the residual stream.
                scale = weight.shape[-1] ** -0.5
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    scale /= (2 * shape.num_hidden_layers) ** 0.5
                with torch.no_grad():
                    weight.normal_(0.0, 0.02 if "embed" in name or "lm_head" in name else scale, generator=generator)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        return self.lm_head(self.model(tokens_BT))

    def balance(self) -> Tensor:
        """Mean load-balancing loss over the layers, of the last forward pass."""
        return torch.stack([m.balance for m in self.modules() if isinstance(m, SparseMlp)]).mean()
