#!/usr/bin/env python3
"""Train a Tiny Recursive Model on 9x9 Sudoku in a few minutes of one Hopper GPU. One file; needs torch, numpy, safetensors.

    python3 train_trm_gpu.py --data DIR --out DIR --seconds 430          the full run
    python3 train_trm_gpu.py --data DIR --out DIR --probe 4              a few seconds per stage, milliseconds per step

What is computed: the Tiny Recursive Model (arXiv 2510.04871) with the mixer over positions: one network of --blocks post-norm blocks for both levels, H - k cycles
without gradient and k (--grad-cycles, 1) with, prefix of P positions cut from one puzzle vector of E = P * D numbers, ACT slots (halt when
q_halt > 0, exploration 0.1, 16 segments). The whole training step - symmetries, refill of the slots, forward, backward, clipping, Muon or
AdamATan2, average of the weights, metrics - is captured in one CUDA graph per depth stage; the level (2 blocks) alone is compiled, once.
Rates and stages follow the share of the wall time, so that a run always ends annealed.

Arithmetic (multiply and add counted as 2). D 384, inner width I 768 (expansion 3), T = 81 + 7 = 88 positions, mixer inner width 256:
    SwiGLU over D, per position and block     2 * 3 * 384 * 768        = 1.77 MFLOP
    mixer, per position and block             2 * 3 * 256 * 384        = 0.59 MFLOP
    one level (2 blocks) on 384 * 88 = 33,792 positions (264 tiles of 128: two full waves of 132 multiprocessors)  = 0.159 TFLOP
H 6, L 9: 60 levels forward and 10 backward (twice the cost each) = 80 * 0.159 = 12.8 TFLOP a step: 57 ms at 225 TFLOP/s, 85 ms at 150.
With the default stages 0:2x6, 0.15:3x9, 0.4:6x9 (28, 50, 80 level units) and 375 s of training after compilation at 225 TFLOP/s:
2,830 + 2,650 + 3,970 = 9,400 steps (4,000 of them at full depth; 8,000 equivalents of the 3x9 stage), two thirds of that at 150.
Expansion 4 (I 1024): 15.9 TFLOP a step (0.8 times the steps). A level moves about 2 GB through memory in bfloat16 at these sizes (half of it the
outputs of the gate and up products), 0.5 to 0.7 ms beside 0.16 TFLOP / 550 TFLOP/s = 0.29 ms of arithmetic: memory, not arithmetic, is likely
the limit, hence the optional Triton kernels that do not write those outputs in the cycles without gradient (50 of the 80 units).
Weights: 2 * (3 * 384 * 768 + 3 * 256 * 88) + 2 * 11 * 384 + 770 + 2,688 + 768 = 1,917,000: 3.8 MB in bfloat16.
"""

import argparse, collections, csv, gzip, json, math, os, sys, time

T_START = float(os.environ.get("TRM_START") or time.time())  # survives a restart without graphs
os.environ["TRM_START"] = repr(T_START)

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

PREFIX = "_orig_mod.model.inner."
VOCAB = 11
HARD, EASY, CLUE17 = 0, 1, 2


def log(*a):
    print(f"{time.time() - T_START:7.1f} s", *a, flush=True)


# ---------------------------------------------------------------------------------------------------------------------------- model
def inner_width(expansion, width):
    return -(-round(expansion * width * 2 / 3) // 256) * 256


def rms(x, dim, eps=1e-5):
    x32 = x.float()
    return (x32 * torch.rsqrt(x32.square().mean(dim, keepdim=True) + eps)).to(x.dtype)


def level(z, u, *w):
    """blocks(z + u); w: mixer gate_up, mixer down, gate_up, down of each block. The mixer multiplies from the left: no transposes."""
    x = z + u
    n = x.shape[0]
    for i in range(0, len(w), 4):
        mix_in, mix_out, w_in, w_out = w[i : i + 4]
        a, b = torch.bmm(mix_in.expand(n, -1, -1), x).chunk(2, 1)
        x = rms(x + torch.bmm(mix_out.expand(n, -1, -1), F.silu(a) * b), 1)
        a, b = F.linear(x, w_in).chunk(2, -1)
        x = rms(x + F.linear(F.silu(a) * b, w_out), -1)
    return x


# Optional: in the cycles without gradient silu(x Wg') * (x Wu') is computed by one Triton kernel that never writes the two products to memory
# (about half of what a level moves). Only used after it was compared with the plain level and found faster; see choose_free_level.
try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

TILES = {  # BM, BN, BK, warps, stages
    "mlp": [(128, 128, 64, 8, 3), (128, 64, 64, 4, 4), (128, 128, 32, 8, 4)],
    "mix": [(128, 128, 32, 8, 3), (128, 64, 32, 4, 3), (64, 128, 32, 4, 3)],
}
BEST = {k: v[0] for k, v in TILES.items()}

if triton is not None:

    @triton.jit
    def gated_kernel(x, w, out, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, sxb, sxm, sxk, sob, som, son,
                     BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr):
        """out[b, m, n] = silu(sum_k x[b, m, k] w[n, k]) * sum_k x[b, m, k] w[N + n, k]; w is (2 N, K) row major, N a multiple of BN."""
        pid = tl.program_id(0)
        b = tl.program_id(1).to(tl.int64)
        tiles_m, tiles_n = tl.cdiv(M, BM), tl.cdiv(N, BN)
        width = GROUP * tiles_n
        group = pid // width
        size = min(tiles_m - group * GROUP, GROUP)
        pm = group * GROUP + (pid % width) % size
        pn = (pid % width) // size
        m = pm * BM + tl.arange(0, BM)
        n = pn * BN + tl.arange(0, BN)
        k = tl.arange(0, BK)
        xp = x + b * sxb + m[:, None].to(tl.int64) * sxm + k[None, :] * sxk
        gp = w + n[None, :] * K + k[:, None]
        up = gp + N * K
        g = tl.zeros((BM, BN), tl.float32)
        u = tl.zeros((BM, BN), tl.float32)
        for k0 in range(0, K, BK):
            left = K - k0
            xt = tl.load(xp, mask=(m[:, None] < M) & (k[None, :] < left), other=0.0)
            wg = tl.load(gp, mask=k[:, None] < left, other=0.0)
            wu = tl.load(up, mask=k[:, None] < left, other=0.0)
            g = tl.dot(xt, wg, g)
            u = tl.dot(xt, wu, u)
            xp += BK * sxk
            gp += BK
            up += BK
        r = g * tl.sigmoid(g) * u
        op = out + b * sob + m[:, None].to(tl.int64) * som + n[None, :] * son
        tl.store(op, r.to(out.dtype.element_ty), mask=m[:, None] < M)

    def launch(kind, x, w, out, grid_m, batches, N, K, strides):
        BM, BN, BK, warps, stages = BEST[kind]
        grid = (triton.cdiv(grid_m, BM) * triton.cdiv(N, BN), batches)
        gated_kernel[grid](x, w, out, grid_m, N, K, *strides, BM, BN, BK, 8, num_warps=warps, num_stages=stages)
        return out

    @torch.library.custom_op("trm::gated_width", mutates_args=())
    def gated_width(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        """(B, T, D), (2 I, D) -> (B, T, I)"""
        x, w, (B, T, D), I = x.contiguous(), w.contiguous(), x.shape, w.shape[0] // 2
        return launch("mlp", x, w, x.new_empty(B, T, I), B * T, 1, I, D, (0, D, 1, 0, I, 1))

    @torch.library.custom_op("trm::gated_positions", mutates_args=())
    def gated_positions(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        """(B, T, D), (2 I, T) -> (B, I, D)"""
        x, w, (B, T, D), I = x.contiguous(), w.contiguous(), x.shape, w.shape[0] // 2
        return launch("mix", x, w, x.new_empty(B, I, D), D, B, I, T, (T * D, 1, D, I * D, 1, D))

    gated_width.register_fake(lambda x, w: x.new_empty(x.shape[0], x.shape[1], w.shape[0] // 2))
    gated_positions.register_fake(lambda x, w: x.new_empty(x.shape[0], w.shape[0] // 2, x.shape[2]))


def level_fused(z, u, *w):
    """level without gradient, with the two kernels above."""
    x = z + u
    n = x.shape[0]
    for i in range(0, len(w), 4):
        mix_in, mix_out, w_in, w_out = w[i : i + 4]
        x = rms(x + torch.bmm(mix_out.expand(n, -1, -1), gated_positions(x, mix_in)), 1)
        x = rms(x + F.linear(gated_width(x, w_in), w_out), -1)
    return x


def level_right(z, u, *w):
    """The same as level; the mixer transposes and multiplies from the right (--mixer right; the probe times both)."""
    x = z + u
    for i in range(0, len(w), 4):
        mix_in, mix_out, w_in, w_out = w[i : i + 4]
        y = x.transpose(1, 2).contiguous()
        a, b = F.linear(y, mix_in).chunk(2, -1)
        x = rms(y + F.linear(F.silu(a) * b, mix_out), -1).transpose(1, 2).contiguous()
        a, b = F.linear(x, w_in).chunk(2, -1)
        x = rms(x + F.linear(F.silu(a) * b, w_out), -1)
    return x


class Cast(torch.autograd.Function):
    """Use the low precision copy `low` of the leaf `p`; the gradient of every use is added up in float32."""

    @staticmethod
    def forward(ctx, p, low):
        return low.view_as(low)

    @staticmethod
    def backward(ctx, g):
        return g.float(), None


def trunc_normal(shape, std, gen):
    """Cut at two standard deviations; std is that of the result."""
    x = torch.empty(shape, dtype=torch.float32)
    torch.nn.init.trunc_normal_(x, 0.0, 1.0, -2.0, 2.0, generator=gen)
    return x * (std / 0.87962566)


class TRM:
    """All weights live in one flat float32 buffer (and one flat low precision copy); `views` cuts it into tensors."""

    def __init__(self, D, expansion, blocks, S, P, E, vocab, dtype, device, seed=0, state=None):
        self.D, self.S, self.P, self.T, self.E, self.V, self.blocks = D, S, P, S + P, E, vocab, blocks
        self.dtype, self.device, self.expansion = dtype, device, expansion
        It, I = inner_width(expansion, self.T), inner_width(expansion, D)
        self.It, self.I = It, I
        shapes = {}
        for i in range(blocks):
            k = f"L_level.layers.{i}."
            shapes[k + "mlp_t.gate_up_proj.weight"] = (2 * It, self.T)
            shapes[k + "mlp_t.down_proj.weight"] = (self.T, It)
            shapes[k + "mlp.gate_up_proj.weight"] = (2 * I, D)
            shapes[k + "mlp.down_proj.weight"] = (D, I)
        self.n_level = 4 * blocks
        shapes["embed_tokens.embedding_weight"] = (vocab, D)
        shapes["lm_head.weight"] = (vocab, D)
        shapes["q_head.weight"] = (2, D)
        shapes["q_head.bias"] = (2,)
        self.shapes = shapes
        self.sizes = [math.prod(s) for s in shapes.values()]
        self.level_numel = sum(self.sizes[: self.n_level])
        gen = torch.Generator().manual_seed(seed)
        values = []
        for k, s in shapes.items():
            if k == "q_head.weight":
                v = torch.zeros(s)
            elif k == "q_head.bias":
                v = torch.full(s, -5.0)
            else:
                v = trunc_normal(s, 1 / math.sqrt(s[1]), gen)
            values.append(v.reshape(-1))
        flat = torch.cat(values)
        puzzle = torch.zeros(E)
        h0, l0 = trunc_normal((D,), 1.0, gen).bfloat16().float(), trunc_normal((D,), 1.0, gen).bfloat16().float()
        if state is not None:
            state = {k.removeprefix(PREFIX): v for k, v in state.items()}
            flat = torch.cat([state[k].float().reshape(-1) for k in shapes])
            puzzle, h0, l0 = (state[k].float() for k in ("puzzle_emb.weights", "H_init", "L_init"))
            puzzle = puzzle[0] if puzzle.shape[0] == 1 else puzzle
        self.flat = flat.to(device)
        self.puzzle = puzzle.to(device)  # (E,) or, for checks only, (ids, E)
        self.h0, self.l0 = h0.to(device), l0.to(device)
        self.compiled = self.free_level = level  # with and without gradient

    def numel(self):
        return self.flat.numel() + self.puzzle.numel() + 2 * self.D

    def views(self, flat):
        return [x.view(s) for x, s in zip(flat.split(self.sizes), self.shapes.values())]

    def leaves(self):
        return [v.detach().requires_grad_() for v in self.views(self.flat)]

    def embed(self, inputs, table, puzzle):
        """inputs (B, S) int64; puzzle (E,) or (B, E) float32. The look-up is a product with one-hot rows (exact)."""
        B, pad = inputs.shape[0], -self.V % 16
        hot = (inputs.unsqueeze(-1) == torch.arange(self.V + pad, device=inputs.device)).to(self.dtype)
        tok = hot @ F.pad(table, (0, 0, 0, pad))
        if self.P:
            row = F.pad(puzzle, (0, self.P * self.D - puzzle.shape[-1])).to(self.dtype)
            row = row.view(-1, self.P, self.D).expand(B, -1, -1)
            tok = torch.cat([row, tok], 1)
        return math.sqrt(self.D) * tok

    def segment(self, w, puzzle, inputs, zH, zL, H, L, grad_cycles=0, chunks=1):
        """w: the list of weights in the working precision. Returns logits, q (float32, two columns), zH, zL."""
        lev, free_lev, wl = self.compiled, self.free_level, w[: self.n_level]
        table, lm, qw, qb = w[self.n_level :]
        e = self.embed(inputs, table, puzzle)
        with torch.no_grad():
            parts = []
            free = [x.detach() for x in wl]
            for h, l, ee in zip(zH.chunk(chunks), zL.chunk(chunks), e.detach().chunk(chunks)):
                for _ in range(H - grad_cycles):
                    u = h + ee
                    for _ in range(L):
                        l = free_lev(l, u, *free)
                    h = free_lev(h, l, *free)
                parts.append((h, l))
            zH, zL = parts[0] if chunks == 1 else (torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts]))
        if grad_cycles:
            # leaves that ask for a gradient, so that every call of the compiled level looks alike (one compiled graph)
            zH, zL = zH.detach().requires_grad_(), zL.detach().requires_grad_()
            for _ in range(grad_cycles):
                u = zH + e
                for _ in range(L):
                    zL = lev(zL, u, *wl)
                zH = lev(zH, zL, *wl)
        pad = -self.V % 16
        logits = F.linear(zH[:, self.P :], F.pad(lm, (0, 0, 0, pad)))[..., : self.V]
        q = F.linear(zH[:, 0], qw, qb).float()
        return logits, q, zH.detach(), zL.detach()

    def state_dict(self, flat, puzzle, dtype=torch.float32):
        out = {k: v for k, v in zip(self.shapes, self.views(flat))}
        out["puzzle_emb.weights"], out["H_init"], out["L_init"] = puzzle.view(1, -1), self.h0, self.l0
        return {PREFIX + k: v.detach().to("cpu", dtype).clone().contiguous() for k, v in out.items()}


# ---------------------------------------------------------------------------------------------------------------------------- data
def read_csv(path):
    with gzip.open(path, "rt") as f:
        rows = [(r["question"], r["answer"]) for r in csv.DictReader(f)]
    q = np.array([np.frombuffer(r[0].replace(".", "0").encode(), dtype=np.uint8) for r in rows]) - 48
    a = np.array([np.frombuffer(r[1].encode(), dtype=np.uint8) for r in rows]) - 48
    assert q.shape == a.shape and q.shape[1] == 81 and q.max() <= 9 and a.min() >= 1 and a.max() <= 9
    assert ((q == 0) | (q == a)).all()
    return q, a


def load_data(folder):
    """Training sources, a validation part cut from the training rows, and the held-out rows (used at the very end only)."""
    f = lambda name: read_csv(os.path.join(folder, name + ".csv.gz"))
    train, extra, test = f("sudoku_extreme_train"), f("sudoku_extreme_train_extra"), f("sudoku_extreme_test")
    easy, clue = f("sudoku_easy_generated"), f("sudoku_easy_17clue")
    assert len(train[0]) == 10000 and len(extra[0]) == 35451 and len(test[0]) == 5000 and len(easy[0]) == len(clue[0]) == 2000
    cut = lambda s, a, b: (s[0][a:b], s[1][a:b])
    sources = [
        tuple(np.concatenate([x, y]) for x, y in zip(cut(train, 512, None), extra)),
        cut(easy, 128, 1000),
        cut(clue, 128, 1000),
    ]
    valid = {"hard": cut(train, 0, 512), "easy": cut(easy, 0, 128), "17clue": cut(clue, 0, 128)}
    held = {"sudoku_extreme_test": test, "easy_last1000": cut(easy, 1000, 2000), "17clue_last1000": cut(clue, 1000, 2000)}
    assert [len(s[0]) for s in sources] == [44939, 872, 872] and [len(v[0]) for v in held.values()] == [5000, 1000, 1000]
    key = lambda s: {x.tobytes() for x in s[0]}
    seen = set.union(*map(key, sources))
    assert not seen & set.union(*map(key, held.values())) and not seen & set.union(*map(key, valid.values()))
    return sources, valid, held


class Sampler:
    """Fresh puzzles for all slots at once, everything on the device, nothing read back."""

    def __init__(self, sources, weights, device):
        self.q = torch.from_numpy(np.concatenate([s[0] for s in sources])).to(device)
        self.a = torch.from_numpy(np.concatenate([s[1] for s in sources])).to(device)
        counts = [len(s[0]) for s in sources]
        self.count = torch.tensor(counts, device=device)
        self.start = torch.tensor(np.cumsum([0] + counts[:-1]), device=device)
        w = torch.tensor(weights, dtype=torch.float32)
        self.bound = (w / w.sum()).cumsum(0)[:-1].to(device)
        self.device = device

    def perm(self, n):
        """(n, 9): a permutation of the nine lines that keeps the bands together."""
        band = torch.rand(n, 3, device=self.device).argsort(1)
        line = torch.rand(n, 3, 3, device=self.device).argsort(2)
        return (band.unsqueeze(2) * 3 + line).view(n, 9)

    def symmetry(self, q, a):
        n = len(q)
        digit = F.pad(torch.rand(n, 9, device=self.device).argsort(1) + 1, (1, 0))  # 0 stays 0
        r, c = self.perm(n).unsqueeze(2), self.perm(n).unsqueeze(1)
        flip = torch.rand(n, 1, 1, device=self.device) < 0.5
        cell = torch.where(flip, c * 9 + r, r * 9 + c).view(n, 81)
        return digit.gather(1, q.gather(1, cell)), digit.gather(1, a.gather(1, cell))

    def draw(self, n, reveal):
        """inputs (blank 1, digit d + 1), labels, source, whether cells were revealed. reveal: probability (a device scalar)."""
        d = self.device
        src = (torch.rand(n, 1, device=d) >= self.bound).sum(1)
        k = (torch.rand(n, device=d, dtype=torch.float64) * self.count[src]).long()
        row = self.start[src] + torch.minimum(k, self.count[src] - 1)
        q, a = self.symmetry(self.q[row].long(), self.a[row].long())
        shown = torch.rand(n, device=d) < reveal
        share = torch.rand(n, 1, device=d)
        fill = shown.unsqueeze(1) & (torch.rand(n, 81, device=d) < share)
        q = torch.where(fill, a, q)
        return q + 1, a + 1, src, shown


# ---------------------------------------------------------------------------------------------------------------------------- losses
def token_loss(logits, labels, kind, smoothing):
    """(B, S). softmax in float32 or stablemax in float64; smoothing spreads its share evenly over the classes."""
    if kind == "softmax":
        lp = F.log_softmax(logits.float(), -1)
    else:
        x = logits.double()
        s = torch.where(x >= 0, x.clamp(min=0) + 1, 1 / (1 - x.clamp(max=0)))
        lp = (s / s.sum(-1, keepdim=True)).log()
    nll = -lp.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    if smoothing:
        nll = (1 - smoothing) * nll - smoothing * lp.mean(-1)
    return nll.float()


# ---------------------------------------------------------------------------------------------------------------------------- optimisers
def newton_schulz(x, steps, dtype):
    """Nearest (semi-)orthogonal matrices of a batch (n, a, b) with a <= b: the quintic iteration of Muon."""
    x = x.to(dtype)
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        m = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(m, m, m, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return x


class Muon:
    """Muon on the matrices of the blocks. Gate and up are orthogonalised each for itself and down transposed, so that a block gives three
    matrices (inner, width) per MLP and all blocks make one batch per width: two batches in all."""

    def __init__(self, model, lr, wd, momentum, device, steps=5, dtype=torch.bfloat16):
        self.model, self.lr, self.wd, self.mom, self.steps, self.dtype = model, lr, wd, momentum, steps, dtype
        n = 3 * model.blocks
        self.buf = [torch.zeros(n, model.It, model.T, device=device), torch.zeros(n, model.I, model.D, device=device)]

    def step(self, flat, grads, sched):
        """flat: the part of the buffer that holds the blocks; grads: their gradients as a list; sched: device scalar."""
        upd = [None] * len(grads)
        for which, buf in enumerate(self.buf):
            gs = []
            for i in range(self.model.blocks):
                g_in, g_out = grads[4 * i + 2 * which], grads[4 * i + 2 * which + 1]
                gs += [*g_in.chunk(2), g_out.mT]
            g = torch.stack(gs)
            buf.lerp_(g, 1 - self.mom)
            g = g.lerp(buf, self.mom)  # Nesterov
            tall = g.shape[1] >= g.shape[2]
            o = newton_schulz(g.mT if tall else g, self.steps, self.dtype).float()
            o = o.mT if tall else o
            rows, cols = g.shape[1:]
            s_in, s_out = max(1.0, rows / cols) ** 0.5, max(1.0, cols / rows) ** 0.5
            for i in range(self.model.blocks):
                upd[4 * i + 2 * which] = o[3 * i : 3 * i + 2].reshape(-1) * s_in
                upd[4 * i + 2 * which + 1] = o[3 * i + 2].mT.reshape(-1) * s_out
        rate = self.lr * sched
        flat.mul_(1 - rate * self.wd).sub_(torch.cat(upd) * rate)


class AdamATan2:
    def __init__(self, numel, lr, wd, device, betas=(0.9, 0.95)):
        self.lr, self.wd, self.betas = lr, wd, betas
        self.m, self.v = torch.zeros(numel, device=device), torch.zeros(numel, device=device)
        self.t = torch.zeros((), device=device)

    def step(self, flat, grad, sched):
        (b1, b2), rate = self.betas, self.lr * sched
        self.t.add_(1)
        flat.mul_(1 - rate * self.wd)
        self.m.lerp_(grad, 1 - b1)
        self.v.mul_(b2).addcmul_(grad, grad, value=1 - b2)
        c1, c2 = -torch.expm1(self.t * math.log(b1)), -torch.expm1(self.t * math.log(b2))
        flat.sub_(torch.atan2(self.m, self.v.sqrt() / c2.sqrt()) * (rate / c1))


# ---------------------------------------------------------------------------------------------------------------------------- training
METRICS = ["steps", "loss", "token", "halt", "grad", "skipped", "done", "q_right", "done_steps", "cells", "active_q"]
CLASSES = ["hard", "easy", "17clue", "hard+", "easy+", "17clue+"]  # + means revealed


class Trainer:
    def __init__(self, o, model, sampler):
        self.o, self.model = o, model
        d, B, T, D = model.device, o.batch, model.T, model.D
        self.sampler = sampler
        self.leaves = model.leaves()
        self.puzzle_leaf = model.puzzle.detach().requires_grad_()
        self.low = torch.empty_like(model.flat, dtype=model.dtype)
        self.low_views = model.views(self.low)
        self.ema, self.average_shift = model.flat.clone(), 1 - o.ema
        z = lambda *s, **k: torch.zeros(*s, device=d, **k)
        self.inputs, self.labels = z(B, 81, dtype=torch.long), z(B, 81, dtype=torch.long)
        self.kind, self.steps = z(B, dtype=torch.long), z(B, dtype=torch.long)
        self.halted = torch.ones(B, dtype=torch.bool, device=d)
        self.zH, self.zL = z(B, T, D, dtype=model.dtype), z(B, T, D, dtype=model.dtype)
        self.sched, self.reveal = z(()), z(())
        self.metrics = z(len(METRICS), dtype=torch.float64)
        self.classes = z(2, len(CLASSES), dtype=torch.float64)  # rows that left, rows that left right
        n = model.level_numel
        ns_dtype = torch.bfloat16 if d.type == "cuda" else torch.float32
        if o.optim == "muon":
            self.muon = Muon(model, o.lr, o.wd, o.momentum, d, dtype=ns_dtype)
            self.adam = AdamATan2(model.flat.numel() - n, o.aux_lr, o.aux_wd, d)
        else:
            self.muon, self.adam = None, AdamATan2(model.flat.numel(), o.adam_lr, o.adam_wd, d)
        self.graph = None

    def step(self, H, L):
        o, m = self.o, self.model
        B, new = o.batch, self.halted
        # halted slots take the next puzzle
        q, a, src, shown = self.sampler.draw(B, self.reveal)
        self.inputs.copy_(torch.where(new[:, None], q, self.inputs))
        self.labels.copy_(torch.where(new[:, None], a, self.labels))
        self.kind.copy_(torch.where(new, src + 3 * shown, self.kind))
        self.steps.copy_(torch.where(new, 0, self.steps) + 1)
        zH = torch.where(new[:, None, None], m.h0.to(m.dtype), self.zH)
        zL = torch.where(new[:, None, None], m.l0.to(m.dtype), self.zL)
        # forward
        self.low.copy_(m.flat)
        w = [Cast.apply(p, l) for p, l in zip(self.leaves, self.low_views)]
        logits, qs, zH, zL = m.segment(w, self.puzzle_leaf, self.inputs, zH, zL, H, L, min(o.grad_cycles, H), o.chunks)
        tok = token_loss(logits, self.labels, o.loss, o.smoothing).mean(1)
        with torch.no_grad():
            right_cells = logits.argmax(-1) == self.labels
            right = right_cells.all(1)
        q_halt = qs[:, 0]
        bce = F.binary_cross_entropy_with_logits(q_halt, right.float(), reduction="none")
        loss = (tok + o.halt_weight * bce).sum() / B
        grads = torch.autograd.grad(loss, self.leaves + [self.puzzle_leaf])
        with torch.no_grad():
            pg, grads = grads[-1], grads[:-1]
            flat = torch.cat([g.reshape(-1) for g in grads])
            norm = flat.norm()
            ok = torch.isfinite(norm)
            scale = (o.clip / (norm + 1e-6)).clamp(max=1.0) if o.clip else torch.ones_like(norm)
            flat = torch.where(ok, flat * scale, 0.0)
            pg = torch.where(ok, pg, 0.0)
            rate = o.puzzle_lr * self.sched
            m.puzzle.mul_(1 - rate * o.puzzle_wd).sub_(pg.sign() * rate)
            n = m.level_numel
            if self.muon:
                self.muon.step(m.flat[:n], m.views(flat)[: m.n_level], self.sched)
                self.adam.step(m.flat[n:], flat[n:], self.sched)
            else:
                self.adam.step(m.flat, flat, self.sched)
            self.ema.lerp_(m.flat, self.average_shift)
            # halting
            lo = torch.rand(B, device=m.device) < o.explore
            least = torch.where(lo, torch.randint(2, o.segments + 1, (B,), device=m.device), 0)
            bad = ~torch.isfinite(tok)
            done = (self.steps >= o.segments) | ((q_halt > 0) & (self.steps >= least)) | bad
            self.halted.copy_(done)
            self.zH.copy_(zH)
            self.zL.copy_(zL)
            f = lambda x: x.double().sum()
            self.metrics.add_(torch.stack([
                torch.ones((), device=m.device, dtype=torch.float64), torch.where(ok, loss, 0.0).double(), f(torch.where(bad, 0.0, tok)) / B,
                f(torch.where(bad, 0.0, bce)) / B, torch.where(ok, norm, 0.0).double(), (~ok).double(), f(done),
                f(done & ((q_halt > 0) == right)), f(self.steps * done), f(right_cells.float().mean(1) * done), f(q_halt > 0) / B]))
            left = (self.kind[:, None] == torch.arange(len(CLASSES), device=m.device)) & done[:, None]
            self.classes.add_(torch.stack([left.double().sum(0), (left & right[:, None]).double().sum(0)]))

    def prepare(self, H, L, warm=2):
        """Capture the step of this depth. The warm-up steps are real steps (they also compile). Returns 'graph' or 'eager'."""
        self.run, self.graph = (lambda: self.step(H, L)), None
        if self.model.device.type != "cuda" or self.o.no_graph:
            for _ in range(warm):
                self.step(H, L)
            return "eager"
        torch.cuda.synchronize()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(warm):
                self.step(H, L)
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode=self.o.capture_mode):
            self.step(H, L)
        torch.cuda.synchronize()
        self.graph, self.run = graph, graph.replay
        return "graph"

    def drop_graph(self):
        if self.graph is not None:
            torch.cuda.synchronize()
            self.run = None
            self.graph.reset()
            self.graph = None
            torch.cuda.empty_cache()

    def read_metrics(self):
        v = self.metrics.tolist() + self.classes.flatten().tolist()
        self.metrics.zero_()
        self.classes.zero_()
        r = dict(zip(METRICS, v))
        n, done = max(r["steps"], 1), max(r["done"], 1)
        out = {k: r[k] / n for k in ("loss", "token", "halt", "grad", "active_q")}
        out["grad"] = r["grad"] / max(n - r["skipped"], 1)
        out["counted"] = n
        out.update(skipped=r["skipped"], left=r["done"] / n, q_right=r["q_right"] / done, segments=r["done_steps"] / done, cells=r["cells"] / done)
        c = v[len(METRICS) :]
        out["exact"] = sum(c[6:]) / done
        out["exact_by"] = {k: round(c[6 + i] / c[i], 4) if c[i] else None for i, k in enumerate(CLASSES)}
        return out


@torch.no_grad()
def evaluate(model, flat, puzzle, q, a, H, L, limits=(16,), batch=384, deadline=None):
    """Halting evaluation. Rows are independent; those that have halted leave, the others are packed into full batches again. Returns, for every
    limit, exact accuracy, mean segments and the share that halted."""
    d = model.device
    w = [x.to(model.dtype) for x in model.views(flat)]
    q = torch.as_tensor(q).to(d).long() + 1
    a = torch.as_tensor(a).to(d).long() + 1
    N = len(q)
    zH = model.h0.to(model.dtype).expand(N, model.T, model.D).clone()
    zL = model.l0.to(model.dtype).expand(N, model.T, model.D).clone()
    pred, used = torch.zeros_like(q), torch.zeros(N, device=d)
    active, out = torch.arange(N, device=d), {}
    for s in range(1, max(limits) + 1):
        stay = []
        for part in active.split(batch):
            n = len(part)
            idx = torch.cat([part, part[:1].expand(batch - n)]) if n < batch else part
            logits, qs, h, l = model.segment(w, puzzle, q[idx], zH[idx], zL[idx], H, L)
            zH[part], zL[part] = h[:n], l[:n]
            pred[part] = logits[:n].argmax(-1)
            stay.append(part[qs[:n, 0] <= 0])
        used[active] += 1
        active = torch.cat(stay)
        over = (deadline is not None and time.time() > deadline) or not len(active)
        for k in limits:
            if k not in out and (s == k or over):
                right = (pred == a).all(1)
                late = s < k and len(active) > 0
                out[k] = {"exact": round(right.double().mean().item(), 4), "segments": round(used.mean().item(), 2),
                          "halted": round(1 - len(active) / N, 4), "cells": round((pred == a).double().mean().item(), 4)}
                if late:
                    out[k]["stopped_at"] = s
        if over:
            break
    return out


def cosine(share, warmup, least):
    if share < warmup:
        return share / warmup
    x = min(1.0, (share - warmup) / max(1e-9, 1 - warmup))
    return least + (1 - least) * 0.5 * (1 + math.cos(math.pi * x))


def parse_stages(text):
    out = []
    for part in text.split(","):
        at, hl = part.split(":")
        h, l = hl.split("x")
        out.append((float(at), int(h), int(l)))
    assert out[0][0] == 0 and all(x[0] < y[0] for x, y in zip(out, out[1:]))
    return out


def write_config(path, o, model, H, L):
    muon = o.optim == "muon"
    text = f"""arch:
  name: recursive_reasoning.trm@TinyRecursiveReasoningModel_ACTV1
  loss:
    name: losses@ACTLossHead
    loss_type: {o.loss}_cross_entropy
  H_cycles: {H}
  L_cycles: {L}
  H_layers: 0
  L_layers: {model.blocks}
  hidden_size: {model.D}
  num_heads: {max(1, model.D // 64)}
  expansion: {model.expansion:g}
  puzzle_emb_ndim: {model.E}
  puzzle_emb_len: {model.P}
  pos_encodings: none
  forward_dtype: bfloat16
  mlp_t: true
  no_ACT_continue: true
  halt_max_steps: {o.segments}
  halt_exploration_prob: {o.explore:g}
data_paths:
- sudoku_extreme_train + sudoku_extreme_train_extra + first 1000 rows of sudoku_easy_generated and of sudoku_easy_17clue, symmetries drawn at load time
global_batch_size: {o.batch}
lr: {o.lr if muon else o.adam_lr:g}
lr_min_ratio: {o.min_ratio:g}
lr_warmup_steps: 0
beta1: 0.9
beta2: 0.95
weight_decay: {o.wd if muon else o.adam_wd:g}
puzzle_emb_lr: {o.puzzle_lr:g}
puzzle_emb_weight_decay: {o.puzzle_wd:g}
ema: true
ema_rate: {o.ema:g}
seed: {o.seed}
"""
    with open(path, "w") as f:
        f.write(text)


def save(o, model, flat, puzzle, H, L, name="model"):
    for dtype, tail in ((torch.float32, ""), (torch.bfloat16, "_bf16")):
        path = os.path.join(o.out, f"{name}{tail}.safetensors")
        save_file(model.state_dict(flat, puzzle, dtype), path + ".tmp")
        os.replace(path + ".tmp", path)
    write_config(os.path.join(o.out, "all_config.yaml"), o, model, H, L)


def restart(o, why, error, *flags):
    """Begin again in a fresh process (the clock goes on): a failed capture or kernel can leave the CUDA context unusable."""
    log(why + ", starting again with", *flags, ":", type(error).__name__, str(error)[:800])
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, os.path.abspath(__file__), *sys.argv[1:], *flags])


def compile_level(o, model):
    """Compile the level and run it once forward and backward; on failure keep the plain one."""
    plain = model.compiled = model.free_level = level_right if o.mixer == "right" else level
    if o.no_compile:
        return "plain"
    t = time.time()
    try:
        torch._dynamo.config.cache_size_limit = 32
        fn = torch.compile(plain, dynamic=False, fullgraph=True)
        d = model.device
        w = [x.to(model.dtype).clone().requires_grad_() for x in model.views(model.flat)[: model.n_level]]
        make = lambda n, grad: torch.randn(n, model.T, model.D, device=d).to(model.dtype).requires_grad_(grad)
        z, u = make(o.batch, True), make(o.batch, True)
        y = fn(z, u, *w)
        torch.autograd.grad(y, [z, u, *w], torch.randn_like(y))
        with torch.no_grad():
            n, free = o.batch // o.chunks, [x.detach() for x in w]
            z, u = make(n, False), make(n, False)
            got, ref = fn(z, u, *free), level(z, u, *free)
            diff = ((got - ref).float().norm() / ref.float().norm()).item()
        log(f"compiled the level in {time.time() - t:.1f} s; difference to the plain one {diff:.2e} (relative)")
        if not diff < 0.05:
            raise RuntimeError("the compiled level computes something else")
        model.compiled = model.free_level = fn
    except Exception as err:  # noqa: BLE001 the run must not be lost
        log("COMPILE FAILED, going on with the plain level:", type(err).__name__, str(err)[:800])
        return "plain"
    return "compiled" + choose_free_level(o, model)


@torch.no_grad()
def choose_free_level(o, model):
    """Try the fused kernels for the cycles without gradient: right, and faster than the compiled level? Then use them."""
    if o.fused == "off" or triton is None or (model.device.type != "cuda" and o.fused != "on"):
        return ""
    t = time.time()
    try:
        n = o.batch // o.chunks
        w = [x.to(model.dtype) for x in model.views(model.flat)[: model.n_level]]
        make = lambda: torch.randn(n, model.T, model.D, device=model.device).to(model.dtype)
        z, u = make(), make()
        for kind, fn, a in (("mlp", gated_width, w[2]), ("mix", gated_positions, w[0])):
            times = {}
            for tile in TILES[kind]:
                if (model.I if kind == "mlp" else model.It) % tile[1]:
                    continue
                BEST[kind] = tile
                try:
                    times[tile] = timed(model, lambda: fn(z, a), 0.02 if model.device.type == "cuda" else 0, 1)
                except triton.runtime.errors.OutOfResources:
                    continue
            BEST[kind] = min(times, key=times.get)
            log(f"fused {kind}: " + ", ".join(f"{k} {v * 1e3:.3f} ms" for k, v in times.items()))
        fused = torch.compile(level_fused, dynamic=False, fullgraph=True)
        got, ref, exact = fused(z, u, *w), model.free_level(z, u, *w), level(z.float(), u.float(), *[x.float() for x in w])
        far = lambda y: ((y.float() - exact).norm() / exact.norm()).item()
        d1, d2 = far(got), far(ref)
        if not d1 < max(2 * d2, 1e-5):
            raise RuntimeError(f"the fused level is {d1:.2e} from float32, the compiled one {d2:.2e}")
        args = (0.15, 10) if model.device.type == "cuda" else (0, 1)
        a, b = timed(model, lambda: fused(z, u, *w), *args), timed(model, lambda: model.free_level(z, u, *w), *args)
        use = a < 0.97 * b or o.fused == "on"
        log(f"level without gradient: fused {a * 1e3:.3f} ms, compiled {b * 1e3:.3f} ms; distance to float32 {d1:.2e}, {d2:.2e}; "
            f"{'fused' if use else 'compiled'} is used; {time.time() - t:.1f} s")
        if use:
            model.free_level = fused
            return " + fused"
    except Exception as err:  # noqa: BLE001
        try:
            sync(model)
        except Exception:  # noqa: BLE001 the context is gone
            restart(o, "THE FUSED KERNEL BROKE THE CONTEXT", err, "--fused", "off")
        log("FUSED KERNEL NOT USED:", type(err).__name__, str(err)[:800])
    return ""


def level_tflop(model, n):
    """One level forward on n rows."""
    return 2 * model.blocks * n * 3 * (model.T * model.D * model.I + model.D * model.T * model.It) / 1e12


def sync(model):
    if model.device.type == "cuda":
        torch.cuda.synchronize()


def timed(model, fn, seconds, least=3):
    fn()
    sync(model)
    t, n = time.time(), 0
    while n < least or time.time() - t < seconds:
        fn()
        n += 1
        if n % 4 == 0:
            sync(model)
    sync(model)
    return (time.time() - t) / n


def probe(o, model, tr, stages, path):
    cuda = model.device.type == "cuda"
    rows = []
    n, some = o.batch // o.chunks, min(0.5, o.probe / 8)
    w = [x.to(model.dtype) for x in model.views(model.flat)[: model.n_level]]
    make = lambda n: torch.randn(n, model.T, model.D, device=model.device).to(model.dtype)
    z, u, zg, ug, wg = make(n), make(n), make(o.batch).requires_grad_(), make(o.batch).requires_grad_(), [x.clone().requires_grad_() for x in w]
    g = torch.randn_like(zg)
    ways = {"as used": (model.free_level, model.compiled), "plain": (level, level)}
    if o.probe_mixer and not o.no_compile:
        ways["other mixer"] = (torch.compile(level if o.mixer == "right" else level_right, dynamic=False),) * 2
    for name, (free, full) in ways.items():
        try:
            with torch.no_grad():
                t = timed(model, lambda: free(z, u, *w), some, 10)
            t2 = timed(model, lambda: torch.autograd.grad(full(zg, ug, *wg), [zg, ug, *wg], g), some, 5)
            log(f"PROBE level, {name}: forward ({n} rows) {t * 1e3:.3f} ms, {level_tflop(model, n) / t:.0f} TFLOP/s; "
                f"forward and backward ({o.batch} rows) {t2 * 1e3:.3f} ms, {3 * level_tflop(model, o.batch) / t2:.0f} TFLOP/s")
        except Exception as err:  # noqa: BLE001
            log("PROBE level,", name, "failed:", type(err).__name__, str(err)[:300])
    del z, u, zg, ug, g
    tr.sched.fill_(1e-3)
    tr.reveal.fill_(o.reveal[0])
    for at, H, L in stages:
        t0 = time.time()
        row = {"stage": f"{H}x{L}"}
        tf = level_tflop(model, o.batch) * (H * (L + 1) + 2 * min(o.grad_cycles, H) * (L + 1))
        tr.run = lambda: tr.step(H, L)
        row["ms_eager_launch"] = 1e3 * timed(model, tr.run, o.probe / 3)
        try:
            t1 = time.time()
            how = tr.prepare(H, L, 1)
            row["prepare_s"] = time.time() - t1
            row["ms_" + how] = ms = 1e3 * timed(model, tr.run, o.probe / 2)
            row["tflops"] = tf / ms * 1e3
            row["steps_in_100_s"] = 1e5 / ms
        except Exception as err:  # noqa: BLE001
            row["graph_error"] = f"{type(err).__name__}: {err}"[:600]
        if cuda:
            row["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
            row["reserved_gib"] = torch.cuda.memory_reserved() / 2**30
        row["loss"] = tr.read_metrics()["loss"]
        log("PROBE", json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}))
        rows.append(row)
        if "graph_error" in row:
            break
        tr.drop_graph()
    with open(path, "w") as f:
        json.dump({"flags": vars(o), "rows": rows}, f, indent=1, default=str)


def train(o, model, tr, stages, valid, how_level):
    cuda = model.device.type == "cuda"
    f = open(os.path.join(o.out, "metrics.jsonl"), "a")
    begin, end = time.time(), T_START + o.seconds
    log(f"training for {end - begin:.0f} s, {model.numel():,} weights, level {how_level}")
    share = lambda: (time.time() - begin) / max(1e-9, end - begin)
    state = {"good": (tr.ema.clone(), model.puzzle.clone(), 0), "stopped": None, "paths": []}
    step, stage, pending = 0, -1, collections.deque()
    last = {"log": begin, "eval": begin, "save": begin, "step": 0}
    H = L = None
    chunk = o.batch // o.chunks
    while share() < 1 and step < o.max_steps:
        x = share()
        want = max(i for i, s in enumerate(stages) if s[0] <= x)
        tr.sched.fill_(cosine(x, o.warmup, o.min_ratio))
        tr.reveal.fill_(o.reveal[0] + (o.reveal[1] - o.reveal[0]) * x)
        if want != stage:
            stage, (_, H, L) = want, stages[want]
            t = time.time()
            pending.clear()
            tr.drop_graph()
            if o.ema_reset and step:
                tr.ema.copy_(model.flat)
            try:
                path = tr.prepare(H, L)
            except Exception as err:  # noqa: BLE001
                if not state["paths"]:
                    restart(o, "CAPTURE FAILED", err, "--no-graph")
                o.no_graph, tr.run, path = True, (lambda: tr.step(H, L)), "eager after a failed capture"
                log("CAPTURE FAILED, this stage runs without a graph:", type(err).__name__, str(err)[:500])
            step += 2
            state["paths"].append(f"{H}x{L}: {path}")
            log(f"stage {stage} ({H}x{L}) at share {x:.3f}: {path}, prepared in {time.time() - t:.1f} s")
            continue
        tr.run()
        step += 1
        if cuda:  # the host may run at most 3 steps ahead, so that the clock is honest
            ev = torch.cuda.Event()
            ev.record()
            pending.append(ev)
            if len(pending) > 3:
                pending.popleft().synchronize()
        now = time.time()
        if now - last["log"] >= o.log_every:
            r = tr.read_metrics()
            now = time.time()
            ms = 1e3 * (now - last["log"]) / max(1, step - last["step"])
            last.update(log=now, step=step)
            r.update(step=step, seconds=round(now - T_START, 2), share=round(x, 4), stage=f"{H}x{L}", ms=round(ms, 2), lr=cosine(x, o.warmup, o.min_ratio))
            f.write(json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in r.items()}) + "\n")
            f.flush()
            log(f"step {step} {H}x{L} {ms:.1f} ms loss {r['loss']:.4f} token {r['token']:.4f} exact {r['exact']:.3f} hard {r['exact_by']['hard']} "
                f"cells {r['cells']:.3f} seg {r['segments']:.2f} q {r['q_right']:.3f} grad {r['grad']:.2f} skipped {r['skipped']:.0f} lr x{r['lr']:.3f}")
            finite = bool(torch.isfinite(tr.ema).all()) and bool(torch.isfinite(model.flat).all())
            if not finite or not math.isfinite(r["loss"]) or r["skipped"] > 0.5 * r["counted"]:
                state["stopped"] = f"not finite at step {step}"
                log("STOPPED:", state["stopped"])
                break
            state["good"] = (tr.ema.clone(), model.puzzle.clone(), step)
        if now - last["eval"] >= o.eval_every and x < 0.97:
            t = time.time()
            res = {k: evaluate(model, tr.ema, model.puzzle, *v, H, L, (o.segments,), chunk)[o.segments] for k, v in valid.items()}
            log(f"VALID step {step} {H}x{L} ({time.time() - t:.1f} s): " + json.dumps(res))
            f.write(json.dumps({"valid": res, "step": step, "seconds": round(time.time() - T_START, 2), "stage": f"{H}x{L}"}) + "\n")
            f.flush()
            last["eval"] = time.time()
            last["log"] += last["eval"] - t
        if now - last["save"] >= o.save_every:
            save(o, model, *state["good"][:2], H, L)
            last["save"] = time.time()
    if cuda:
        torch.cuda.synchronize()
    if not state["stopped"] and bool(torch.isfinite(tr.ema).all()):
        state["good"] = (tr.ema.clone(), model.puzzle.clone(), step)
    graphs = 0 if o.no_compile else torch._dynamo.utils.counters["stats"].get("unique_graphs", 0)
    log(f"trained {step} steps; {graphs} compiled graphs (2 or 3 expected: with gradient, without, fused)")
    return state, step, f


def finish(o, model, tr, stages, valid, held, state, step, f):
    _, H, L = stages[-1]
    flat, puzzle, good = state["good"]
    save(o, model, flat, puzzle, H, L)  # first of all
    chunk = o.batch // o.chunks
    seg = o.segments
    summary = {"step": step, "good_step": good, "stopped": state["stopped"], "paths": state["paths"], "H_cycles": H, "L_cycles": L,
               "weights": model.numel(), "seconds": round(time.time() - T_START, 1), "flags": vars(o),
               "device": torch.cuda.get_device_name() if model.device.type == "cuda" else "cpu"}
    out = os.path.join(o.out, "summary.json")

    def put():
        with open(out + ".tmp", "w") as g:
            json.dump(summary, g, indent=1, default=str)
        os.replace(out + ".tmp", out)

    put()
    candidates = {"ema": flat}
    if not state["stopped"] and bool(torch.isfinite(model.flat).all()):
        candidates["live"] = model.flat.clone()
    summary["valid"] = {}
    for name, x in candidates.items():
        r = {k: evaluate(model, x, puzzle, *v, H, L, (seg,), chunk)[seg] for k, v in valid.items()}
        summary["valid"][name] = r
        log(f"VALID {name}: {json.dumps(r)}")
    mark = lambda n: sum(v["exact"] * len(valid[k][0]) for k, v in summary["valid"][n].items())
    chosen = max(candidates, key=lambda n: (mark(n), n == "ema"))  # by validation rows only
    if chosen != "ema":
        save(o, model, flat, puzzle, H, L, "model_ema")
        flat = candidates[chosen]
        save(o, model, flat, puzzle, H, L)
    summary["saved"] = chosen
    put()
    summary["held_out"] = {k: {"rows": len(v[0][: o.test_rows])} for k, v in held.items()}
    spare = time.time() + o.eval_seconds
    for limit in sorted({seg, o.long_segments}):
        for k, v in held.items():
            t = time.time()
            r = evaluate(model, flat, puzzle, v[0][: o.test_rows], v[1][: o.test_rows], H, L, (limit,), chunk, deadline=spare)[limit]
            summary["held_out"][k][str(limit)] = r
            log(f"HELD OUT {k}, at most {limit} segments, {summary['held_out'][k]['rows']} rows ({time.time() - t:.1f} s): {json.dumps(r)}")
            put()
    summary["total_seconds"] = round(time.time() - T_START, 1)
    put()
    f.write(json.dumps({"summary": {k: summary[k] for k in ("saved", "valid", "held_out")}}) + "\n")
    f.close()
    log("done:", ", ".join(sorted(os.listdir(o.out))))


def arguments(argv=None):
    p = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    a = p.add_argument
    a("--data", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "data"))
    a("--out", default=os.environ.get("OUT", "out"))
    a("--seconds", type=float, default=430, help="wall time from the start of the script to the end of training (compilation counts, the final evaluation does not)")
    a("--probe", type=float, default=0, help="seconds per stage; time the stages and leave")
    a("--probe-mixer", action="store_true", help="in the probe: compile and time the other form of the mixer too")
    a("--stages", default="0:2x6,0.15:3x9,0.4:6x9", help="share of the training time : H x L")
    a("--hidden", type=int, default=384)
    a("--expansion", type=float, default=3, help="SwiGLU width = 2/3 of this times the width, rounded up to 256")
    a("--blocks", type=int, default=2)
    a("--prefix", type=int, default=7, help="P; 81 + P should be a multiple of 8 on a GPU")
    a("--batch", type=int, default=384)
    a("--grad-cycles", type=int, default=1, help="the last k of the H cycles carry gradients")
    a("--chunks", type=int, default=1, help="run the cycles without gradient on parts of the batch (smaller working set)")
    a("--segments", type=int, default=16)
    a("--explore", type=float, default=0.1)
    a("--optim", choices=["muon", "adam"], default="muon")
    a("--lr", type=float, default=0.02, help="Muon")
    a("--wd", type=float, default=0.005, help="Muon")
    a("--momentum", type=float, default=0.95, help="Muon")
    a("--aux-lr", type=float, default=5e-4, help="AdamATan2 on embeddings and heads beside Muon")
    a("--aux-wd", type=float, default=0.2)
    a("--adam-lr", type=float, default=1e-3, help="AdamATan2 on everything (--optim adam)")
    a("--adam-wd", type=float, default=0.1)
    a("--puzzle-lr", type=float, default=1e-3)
    a("--puzzle-wd", type=float, default=0.1)
    a("--warmup", type=float, default=0.01, help="share of the training time")
    a("--min-ratio", type=float, default=0.0)
    a("--clip", type=float, default=1.0)
    a("--ema", type=float, default=0.999)
    a("--ema-reset", type=int, default=1, help="start the average anew when the depth changes")
    a("--loss", choices=["softmax", "stablemax"], default="softmax")
    a("--smoothing", type=float, default=0.2)
    a("--halt-weight", type=float, default=0.05)
    a("--mixture", default="0.75,0.10,0.15", help="hardest, easy, 17 clues")
    a("--reveal", default="0.5,0.1", help="probability that a share of the blanks is filled: at the start, at the end")
    a("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    a("--seed", type=int, default=0)
    a("--mixer", choices=["left", "right"], default="left", help="how the compiled mixer multiplies; same numbers")
    a("--fused", choices=["auto", "on", "off"], default="auto", help="the Triton kernels in the cycles without gradient")
    a("--no-compile", action="store_true")
    a("--no-graph", action="store_true")
    a("--capture-mode", default="thread_local", choices=["global", "thread_local", "relaxed"])
    a("--eval-every", type=float, default=60)
    a("--save-every", type=float, default=90)
    a("--log-every", type=float, default=5)
    a("--eval-seconds", type=float, default=75, help="limit of the final held-out evaluation")
    a("--long-segments", type=int, default=64)
    a("--test-rows", type=int, default=10**9)
    a("--max-steps", type=int, default=10**9)
    a("--init", default="", help="go on from a saved model (its sizes must be given)")
    o = p.parse_args(argv)
    o.reveal = [float(x) for x in o.reveal.split(",")]
    return o


def main():
    o = arguments()
    os.makedirs(o.out, exist_ok=True)
    torch.manual_seed(o.seed)
    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    assert o.batch % o.chunks == 0
    log(f"torch {torch.__version__} on {torch.cuda.get_device_name() if cuda else 'cpu'}; " + " ".join(sys.argv[1:]))
    if cuda:
        torch.set_float32_matmul_precision("high")
    stages = parse_stages(o.stages)
    sources, valid, held = load_data(o.data)
    sampler = Sampler(sources, [float(x) for x in o.mixture.split(",")], device)
    log("sources " + str([len(s[0]) for s in sources]))
    state = load_file(o.init) if o.init else None
    dtype = getattr(torch, o.dtype)
    model = TRM(o.hidden, o.expansion, o.blocks, 81, o.prefix, o.prefix * o.hidden, VOCAB, dtype, device, o.seed, state)
    how = compile_level(o, model)
    tr = Trainer(o, model, sampler)
    if o.probe:
        probe(o, model, tr, stages, os.path.join(o.out, "probe.json"))
        return
    state, step, f = train(o, model, tr, stages, valid, how)
    tr.drop_graph()
    finish(o, model, tr, stages, valid, held, state, step, f)


if __name__ == "__main__":
    main()
