"""gpu_check_plans.py - the part fused of scripts/gpu-check: every plan tried for sdnet18-all's fused graphs."""
import os

import gpu_check_parts as parts
from gpu_check_report import CARDS


def read_plans(path):
    """Reads csc-bench's table, graph=choice ms TFLOP/s kernel. Returns each graph's plans, the fastest first."""
    graphs = {}
    with open(path, encoding="utf-8") as f:
        for line in f:
            words = line.split()
            if line.startswith("#") or len(words) < 3 or "=" not in words[0]:
                continue
            graph, _, choice = words[0].partition("=")
            graphs.setdefault(graph,
                              []).append((float(words[1]), float(words[2]), choice, " ".join(words[3:]) or "unnamed"))
    return {graph: sorted(plans) for graph, plans in graphs.items()}


def is_fused(graph):
    """"cudnn.91900.adjoint.add.256x56x56x64.64.3.1.1.bf16": the fourth word is the epilogue."""
    words = graph.split(".")
    return len(words) > 3 and words[2] in ("forward", "adjoint") and words[3] != "plain"


def fused(check):
    out = check.path("candidates.txt")
    if not check.gpu:
        raise parts.Skipped("there is no GPU")
    if os.path.exists(out):
        os.remove(out)
    fresh = os.path.join(check.work, "fused-plans.txt")
    if os.path.exists(fresh):
        os.remove(fresh)
    parts.bench(check, "fused", "step", *parts.size_options(check, 224, 256), "--arch", "sdnet18-all", "--steps", "1",
                "--plans", fresh, "--candidates", out)
    peak = next((tflops for card, (_, tflops) in CARDS.items() if card in check.gpu), None)
    graphs = {graph: plans for graph, plans in read_plans(out).items() if is_fused(graph)}
    if not graphs:
        raise parts.Failed("no fused graph was tried")
    with open(check.path("fused.txt"), "w", encoding="utf-8") as f:
        for graph, plans in graphs.items():
            f.write(graph + "\n")
            for ms, tflops, choice, kernel in plans:
                share = f" {tflops / peak:5.2f} of {peak} TFLOP/s" if peak else ""
                f.write(f"  {ms:8.4f} ms {tflops:7.1f} TFLOP/s{share}  {choice}  {kernel}\n")
    check.figure("fused graphs", len(graphs))
    check.figure("whose fastest plan is no sm80 kernel", sum("sm80" not in plans[0][3] for plans in graphs.values()))
    for graph, plans in graphs.items():
        ms, tflops, choice, kernel = plans[0]
        check.figure(graph, tflops, f"TFLOP/s, {ms:.4f} ms, {kernel}", tried=len(plans), choice=choice)
