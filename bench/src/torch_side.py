"""PyTorch's side of against_torch.rs: reads requests on standard input and answers on standard output, a line of JSON each.

Tensors are files of little-endian f32 (i32 for documents) in row-major order, so that both sides compute on the same numbers.
An answer is {"error": "…"} where a request failed; where PyTorch has no way to compute something, the answer says why.
"""

import json
import math
import os
import sys
import time
from contextlib import nullcontext

# Kernels are compiled while this runs and print as they like: answers go to the real standard output, all else to stderr.
ANSWERS = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)

import numpy
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

# Older ones have less, which leaves out that side alone.
try:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    NO_FLEX = ""
except ImportError as error:
    NO_FLEX = f"PyTorch {torch.__version__} has none ({error})"
CUDNN = getattr(SDPBackend, "CUDNN_ATTENTION", None)

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


DEVICE = None


def synchronize():
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def seconds(run, calls=1, warm_up=0):
    """The seconds of a call, until the device is done with all of them; before, some that do not count."""
    for _ in range(warm_up):
        run()
    synchronize()
    start = time.perf_counter()
    for _ in range(calls):
        run()
    synchronize()
    return (time.perf_counter() - start) / calls


def open_device(request):
    global DEVICE
    DEVICE = request["device"]
    if DEVICE not in ("cpu", "cuda"):
        raise RuntimeError(f"PyTorch is compared on cpu and cuda, not on {DEVICE}")
    if DEVICE == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("no CUDA device")
    if DEVICE == "cpu":
        torch.set_num_threads(request["threads"])
    # What the first compilation of a process costs (imports, finding out by half a minute of g++ which vectors there are) is
    # not a variant's own; this uses PyTorch's usual cache. Variants get an empty one, so that first calls are first.
    try:
        torch.compile(lambda x: x * 2 + 1)(torch.ones(64, device=DEVICE))
    except Exception as error:  # no C compiler, say: FlexAttention will say it again, and SDPA needs none
        print(f"PyTorch can't compile here: {first_line(error)}", file=sys.stderr)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = request["cache"]
    hardware = torch.cuda.get_device_name() if DEVICE == "cuda" else f"{torch.get_num_threads()} threads"
    return {"torch": torch.__version__, "hardware": hardware}


MATRICES = {}


def matmul(request):
    """The rate of a product of two square matrices of random numbers: zeros would take less power, and be faster."""
    size = 8192 if DEVICE == "cuda" else 1024
    dtype = DTYPES[request["dtype"]]
    if dtype not in MATRICES:
        MATRICES[dtype] = [torch.randn(size, size, device=DEVICE).to(dtype) for _ in range(2)]
    left, right = MATRICES[dtype]
    return {"gflops": 2 * size**3 / seconds(lambda: torch.matmul(left, right), calls=5, warm_up=2) / 1e9}


def machine(request):
    count = (1 << 30) if DEVICE == "cuda" else (1 << 26)
    source = torch.ones(count, device=DEVICE)
    target = torch.empty_like(source)
    copy = seconds(lambda: target.copy_(source), calls=5, warm_up=2)
    answer = {
        "torch": torch.__version__,
        "python": sys.version.split()[0],
        "matmul_f32_gflops": matmul({"dtype": "f32"})["gflops"],
        "matmul_bf16_gflops": matmul({"dtype": "bf16"})["gflops"],
        "copy_gb_s": 2 * 4 * count / copy / 1e9,
    }
    if DEVICE == "cuda":
        properties = torch.cuda.get_device_properties(0)
        answer |= {
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "multiprocessors": properties.multi_processor_count,
            "l2_bytes": properties.L2_cache_size,
        }
    return answer


def read(tensor, kind):
    data = numpy.fromfile(tensor["file"], dtype=kind).reshape(tensor["shape"])
    return torch.from_numpy(data).to(DEVICE)


class Case:
    """A case's tensors, and its attention in PyTorch's ways: `ways` has what to call in what context, `without` why there is none.

    A reason is empty where nobody would expect that way.
    """

    def __init__(self, request):
        dtype = DTYPES[request["dtype"]]
        batch = request["batch"]
        self.query, key, value = (
            read(request[name], "<f4").to(dtype).repeat(batch, 1, 1, 1) for name in ("query", "key", "value")
        )
        self.pairs = [(key, value)] + [(key.clone(), value.clone()) for _ in range(request["copies"] - 1)]
        self.turn = 0
        self.grouped = self.query.shape[1] != key.shape[1]
        self.queries, self.keys = self.query.shape[2], key.shape[2]
        # The last query is at the last key's position.
        self.offset = self.keys - self.queries
        self.mask_mod, self.score_mod = self.modifications(request)
        self.compiled_flex = self.compiled_mask = self.block_mask = None
        self.sdpa_kernel = "any"
        self.ways, self.without = {}, {}
        try:
            self.plan_sdpa(request["variant"])
        except torch.OutOfMemoryError as error:  # a dense mask with a number for each pair and head
            self.leave_out_sdpa(first_line(error))

    def modifications(self, request):
        """FlexAttention's functions for the variant: which pairs are visible, and how a score is formed."""
        variant, offset = request["variant"], self.offset
        kind = variant["kind"]
        causal = (lambda b, h, i, j: j <= i) if offset == 0 else (lambda b, h, i, j: j <= i + offset)
        if kind == "full" or (kind == "causal" and self.queries == 1):
            return None, None  # a single query, the last, sees all keys
        if kind == "causal":
            return causal, None
        if kind == "sliding_window":
            window = variant["window"]
            return lambda b, h, i, j: (j <= i) & (i - j < window), None
        if kind == "chunked":
            chunk = variant["chunk"]
            return lambda b, h, i, j: (j <= i) & (i // chunk == j // chunk), None
        if kind == "documents":
            document = read(request["documents"], "<i4")
            return lambda b, h, i, j: (j <= i) & (document[i] == document[j]), None
        if kind == "alibi_causal":
            slopes = read(request["slopes"], "<f4")
            self.slopes = slopes
            return causal, lambda score, b, h, i, j: score - slopes[h] * (i - j)
        if kind == "softcap":
            cap = variant["cap"]
            return causal, lambda score, b, h, i, j: cap * torch.tanh(score / cap)
        if kind == "prefix_lm":
            prefix = variant["prefix"]
            return lambda b, h, i, j: (j < prefix) | (j <= i), None
        raise RuntimeError(f"no variant {kind}")

    def plan_sdpa(self, variant):
        """As a user would call it: `is_causal` where that says it, else a mask in memory, made once and not timed.

        Without a mask in memory a GPU computes it by FlashAttention-2 and by nothing else, if it has 16 bits; and by cuDNN.
        """
        kind = variant["kind"]
        if kind == "softcap":
            self.leave_out_sdpa("scaled_dot_product_attention cannot change scores but by adding to them")
            return
        arguments = {}
        if kind == "causal" and self.offset == 0:
            arguments["is_causal"] = True
        elif self.mask_mod is not None:
            i = torch.arange(self.queries, device=DEVICE)[:, None]
            j = torch.arange(self.keys, device=DEVICE)[None, :]
            visible = self.mask_mod(0, 0, i, j)
            if kind == "alibi_causal":
                bias = -self.slopes[:, None, None] * (i - j)
                visible = torch.where(visible, bias, -math.inf)[None].to(self.query.dtype)
            arguments["attn_mask"] = visible
        if self.grouped:
            arguments["enable_gqa"] = True
        run = lambda: scaled_dot_product_attention(self.query, *self.next_pair(), **arguments)
        if DEVICE == "cuda" and self.query.dtype != torch.float32 and "attn_mask" not in arguments:
            self.sdpa_kernel = "flash"
        no_cudnn = self.reason_without_cudnn()
        if no_cudnn is None:
            self.ways["cudnn"] = run, lambda: sdpa_kernel(CUDNN)
        else:
            self.without["cudnn"] = no_cudnn
        flash = self.sdpa_kernel == "flash"
        self.ways["sdpa"] = run, (lambda: sdpa_kernel(SDPBackend.FLASH_ATTENTION)) if flash else nullcontext

    def leave_out_sdpa(self, reason):
        no_cudnn = self.reason_without_cudnn()
        self.without |= {"sdpa": reason, "cudnn": reason if no_cudnn is None else no_cudnn}

    def reason_without_cudnn(self):
        if DEVICE != "cuda":
            return ""
        if CUDNN is None:
            return f"PyTorch {torch.__version__} has none"
        return "it has no f32" if self.query.dtype == torch.float32 else None

    def next_pair(self):
        self.turn = (self.turn + 1) % len(self.pairs)
        return self.pairs[self.turn]

    def flex_mask(self):
        return self.compiled_mask(self.mask_mod, None, None, self.queries, self.keys, device=DEVICE)

    def flex(self):
        return self.compiled_flex(
            self.query, *self.next_pair(), score_mod=self.score_mod, block_mask=self.block_mask, enable_gqa=self.grouped
        )

    def make_block_mask(self):
        try:
            self.block_mask = self.flex_mask()
        except Exception:  # inductor 2.9.1 writes C++ that does not compile for 16 queries on 4096 keys
            print("  the block mask can't be compiled, and is made without", file=sys.stderr)
            self.compiled_mask = create_block_mask
            self.block_mask = self.flex_mask()

    def first_flex(self):
        """Compiles FlexAttention for these shapes alone, as in a process that runs nothing else."""
        torch._dynamo.reset()
        self.compiled_flex = torch.compile(flex_attention)
        self.compiled_mask = torch.compile(create_block_mask)
        first = {}
        if self.mask_mod is not None:
            first["mask_ms"] = 1e3 * seconds(self.make_block_mask)
        first["flex_ms"] = 1e3 * seconds(self.flex)
        return first


CASE = None


def set_case(request):
    """Reads the tensors and computes the output in each way, into files; says how long first calls took."""
    global CASE
    CASE = None  # frees the last one's tensors
    if DEVICE == "cuda":
        torch.cuda.empty_cache()  # the other process has the same memory
    CASE = Case(request)
    answer = {"has_mask": CASE.mask_mod is not None, "without": CASE.without, "sdpa_kernel": CASE.sdpa_kernel}
    for way, (run, context) in CASE.ways.items():
        try:
            # The context takes some microseconds, which are not the attention's own.
            with context():
                write(run(), request["outputs"][way])
        except RuntimeError as error:  # a kernel that this GPU, or this call, does not have; or no memory for a dense mask
            CASE.without[way] = first_line(error)
    if NO_FLEX or not request["with_flex"]:
        CASE.without["flex"] = NO_FLEX or "it is compiled for the first cases only"
        return answer
    try:
        answer["first"] = CASE.first_flex()
        CASE.ways["flex"] = CASE.flex, nullcontext
        CASE.ways["flex_mask"] = CASE.flex_mask, nullcontext
        write(CASE.flex(), request["outputs"]["flex"])
    except Exception as error:  # whatever PyTorch raises where it has no kernel
        CASE.without["flex"] = first_line(error)
    return answer


def first_line(error):
    return f"{type(error).__name__}: {error}".strip().splitlines()[0]


def write(output, file):
    output.float().contiguous().cpu().numpy().astype("<f4").tofile(file)


def time_calls(request):
    run, context = CASE.ways[request["what"]]
    calls = request["calls"]
    # A GPU that did nothing starts slowly, and the other side's calls are timed after as many.
    warm_up = -(-calls // 4) if DEVICE == "cuda" else 0
    with context():
        return {"ms": 1e3 * seconds(run, calls, warm_up)}


OPERATIONS = {"open": open_device, "machine": machine, "matmul": matmul, "case": set_case, "time": time_calls}


def main():
    with torch.no_grad():
        for line in sys.stdin:
            request = json.loads(line)
            try:
                answer = OPERATIONS[request["operation"]](request)
            except Exception as error:
                answer = {"error": f"{error}"}
            print(json.dumps(answer), file=ANSWERS, flush=True)


if __name__ == "__main__":
    main()
