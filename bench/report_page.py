# SPDX-License-Identifier: MIT
"""The page of bench/report: tables in Markdown from the results of vmbus-bench, what was judged, and
where others are ahead, with the reasons that bench/reasons gives.
"""
import contextlib
import io
import json
import os
import re
from importlib.machinery import SourceFileLoader

HERE = os.path.dirname(os.path.abspath(__file__))
judge = SourceFileLoader("judge", os.path.join(HERE, "judge")).load_module()

TITLES = {
    "ring": "The ring",
    "channel": "The channel",
    "kvm": "Virtual machines: exits",
    "block": "A disk behind a channel",
    "net": "A network card behind a channel",
    "isolation": "Beside a hostile child",
    "resume": "When a device dies or is replaced",
}
INTRO = {
    "ring": "A ring of 1 MiB between two processes, one packet after the other copied in and out."
            "  `limit.copy` is memcpy in and out of shared memory without a protocol; the other"
            " columns are what could be used instead.  Ratios are of ours to theirs, so that more"
            " than 1 means that ours is ahead.",
    "channel": "The same packets through the API of a device, beside the bare ring, which is the"
               " limit of a channel; a wake-up beside a raw eventfd, which is its limit; and many"
               " channels.",
    "kvm": "What each packet between a guest without an operating system and the echo device costs"
           " in exits.  The limit is none at all.",
    "block": "Disks in memory, one thread that polls on either side.  The limits are the kernel"
             " alone (`limit.pread`, `limit.io_uring`: no second process) and a channel alone"
             " (`vmbus.channel-echo`).",
    "net": "Frames from one process to another, each on a processor of its own, both polling.",
    "isolation": "What the others get while one child is hostile, as part of what they get while it"
                 " is honest and as busy as it can be.  The limit is 1.",
    "resume": "What a child feels when the process of its device is killed, or hands over to another"
              " one, and how fast a death is noticed.",
}
RING_PEERS = ("rte_ring", "rte_ring-ptr", "ck", "libqb", "wfcqueue", "pipe", "unix")
AHEAD = 0.995  # a ratio below it is a loss


class Reasons:
    """bench/reasons: stage, subject, place and reason with " | " between them."""

    def __init__(self, path):
        self.list = []
        with open(path, encoding="utf-8") as f:
            for text in f:
                if text.strip() and not text.startswith("#"):
                    parts = [p.strip() for p in text.split(" | ", 3)]
                    if len(parts) != 4:
                        raise ValueError("bench/reasons: not four parts: " + text)
                    self.list.append(parts)

    def find(self, stage, subject, where):
        for at, who, pattern, reason in self.list:
            if at == stage and re.fullmatch(who, subject) and re.search(pattern, where):
                return reason
        return None


class RingJudge(judge.Judge):
    """bench/judge, which prints; here its lines are kept."""

    def __init__(self, data):
        super().__init__(judge.Run(data))
        self.lines = []
        with contextlib.redirect_stdout(io.StringIO()):
            for row in (self.row1, self.row2, self.row3, self.row4):
                row()

    def line(self, verdict, what, detail):
        self.lines.append((verdict, what, detail))


def goals_of(stage):
    """[(verdict, what, detail)], verdicts in the words of vmbus-bench."""
    data = stage["result"]
    if not data:
        return []
    if data["command"] == "ring":
        words = {"MET": "met", "NOT MET": "not met"}
        return [(words.get(v, v), what, detail) for v, what, detail in RingJudge(data).lines]
    lines = []
    for g in data.get("goals", []):
        bound = g.get("at_most", g.get("at_least"))
        value, limit = (amount(g["got"], g["unit"]), amount(bound, g["unit"]))
        lines.append((g["verdict"], g["what"], "%s, %s %s"
                      % (value, "at most" if "at_most" in g else "at least", limit)))
    return lines


def amount(value, unit):
    if value is None:
        return "-"
    if unit == "ratio":
        return "%.2f" % value
    if unit == "ns" and abs(value) >= 1e6:
        return "%.2f ms" % (value / 1e6)
    if unit == "ns" and abs(value) >= 1e3:
        return "%.1f us" % (value / 1e3)
    if unit == "B":
        return "%.0f KiB" % (value / 1024)
    if unit.startswith("1/p"):
        return "%.4f" % value
    if unit.startswith("ns/"):
        return "%.1f %s" % (value, unit)
    for scale, letter in ((1e6, "M "), (1e3, "k ")):
        if abs(value) >= scale:
            return "%.2f %s%s" % (value / scale, letter, unit)
    return "%.4g %s" % (value, unit)


def count(lines):
    total = {}
    for verdict, _, _ in lines:
        total[verdict] = total.get(verdict, 0) + 1
    return total


def find(data, **keys):
    for r in data["results"]:
        if all(r.get(k) == v for k, v in keys.items()):
            return r
    return None


def ordered(values):
    seen = []
    for v in values:
        if v not in seen:
            seen.append(v)
    return seen


def ratio(r):
    if not r or "ratio_median" not in r:
        return "-"
    return "%.2f%s" % (r["ratio_median"], " u" if r["unsteady"] else "")


def table(head, rows):
    lines = ["| %s |" % " | ".join(head), "|%s|" % "|".join("---" for _ in head)]
    return lines + ["| %s |" % " | ".join(str(c) for c in row) for row in rows] + [""]


# ---- tables of the stages ----

def ring_tables(data):
    lines = []
    cells = [r for r in data["results"] if r["metric"] == "throughput" and r["mode"] == "copy"]
    names = [p for p in RING_PEERS if any(r["subject"] == p for r in cells)]
    for batch in ordered(r["batch"] for r in cells):
        rows = []
        for payload in ordered(r["payload"] for r in cells if r["batch"] == batch):
            ours = find(data, subject="vmbus", metric="throughput", batch=batch, payload=payload)
            limit = find(data, subject="limit.copy", metric="bandwidth", batch=batch, payload=payload)
            rows.append(["%d B" % payload, "%.2f" % (ours["median"] / 1e6),
                         "%.2f to %.2f" % (ours["min"] / 1e6, ours["max"] / 1e6), ratio(limit)]
                        + [ratio(find(data, subject=n, metric="throughput", batch=batch,
                                      payload=payload)) for n in names])
        lines += ["Batch %d; million packets in a second of ours, and ratios of ours to each:" % batch, ""]
        lines += table(["payload", "ours", "min to max", "`limit.copy`"]
                       + ["`%s`" % n for n in names], rows)
    rows = []
    for r in data["results"]:
        if r["metric"] in ("rtt_p50", "wake_p50"):
            p99 = find(data, subject=r["subject"], mode=r["mode"],
                       metric=r["metric"].replace("p50", "p99"))
            rows.append(["`%s`" % r["subject"], r["mode"], "%.0f" % r["median"],
                         "%.0f" % p99["median"] if p99 else "-", ratio(r)])
    if rows:
        lines += ["Round trip of 8 bytes, both sides polling, and wake-up (half a round trip), both"
                  " asleep, in ns; here a ratio below 1 means that ours is ahead:", ""]
        lines += table(["subject", "mode", "p50", "p99", "ours / theirs"], rows)
    return lines


def place(r):
    parts = ["%d B, %d under way" % (r["payload"], r["batch"])] if r["payload"] else []
    if r.get("channels"):
        parts.append("%d channel%s" % (r["channels"], "" if r["channels"] == 1 else "s"))
    return ", ".join(parts)


def metric_table(data):
    """One row for each subject, mode and place, and a column for each metric: medians."""
    results = data["results"]
    metrics = ordered(r["metric"] for r in results)
    rows = {}
    for r in results:
        key = ("`%s`" % r["subject"], r["mode"], place(r))
        text = amount(r["median"], r["unit"]).split(" 1/")[0]
        rows.setdefault(key, {})[r["metric"]] = text + (" u" if r["unsteady"] else "")
    return table(["subject", "mode", "of"] + ["%s" % m for m in metrics],
                 [list(key) + [cells.get(m, "") for m in metrics] for key, cells in rows.items()])


def channel_tables(data):
    """Packets, wake-ups and many channels apart: they share no metric."""
    lines = []
    for what, metrics in (("Packets of 64 bytes:", ("throughput", "cost")),
                          ("Wake-ups:", ("wake_p50", "wake_p99", "wake_p999")),
                          ("Many channels:", ("open_time", "opens", "memory"))):
        results = [r for r in data["results"] if r["metric"] in metrics]
        if results:
            lines += [what, ""] + metric_table({"results": results})
    return lines


def plain_table(data):
    """One row for each result; for stages with few of them."""
    rows = []
    for r in data["results"]:
        rows.append(["`%s`" % r["subject"], r["metric"], r["mode"], place(r)]
                    + [amount(r[k], r["unit"]) for k in ("median", "min", "max")]
                    + [ratio(r)])
    return table(["subject", "metric", "mode", "of", "median", "min", "max", "ratio"], rows)


def work_tables(data, metric, scale, unit):
    """A table for each work of block and net."""
    lines = []
    works = ordered((r["mode"], r["payload"], r["batch"]) for r in data["results"]
                    if r["metric"] == metric)
    for mode, payload, batch in works:
        rows = []
        for r in data["results"]:
            if (r["mode"], r["payload"], r["batch"], r["metric"]) != (mode, payload, batch, metric):
                continue
            same = {"subject": r["subject"], "mode": mode, "payload": payload, "batch": batch}
            cpu = find(data, metric="cpu", **same)
            p99 = find(data, metric="rtt_p99", **same)
            p50 = find(data, metric="rtt_p50", **same)
            rows.append(["`%s`" % r["subject"], r["version"], "%.2f%s" % (r["median"] / scale,
                                                            " u" if r["unsteady"] else ""),
                         "%.2f to %.2f" % (r["min"] / scale, r["max"] / scale),
                         "%.2f" % (r["median"] * payload / 1e9),
                         "%.0f" % cpu["median"] if cpu else "-",
                         "%.0f / %.0f" % (p50["median"], p99["median"]) if p50 and p99 else "-",
                         ratio(r)])
        what = ("%s of %d KiB, %d under way" % (mode, payload // 1024, batch)
                if metric == "requests" else "%s, frames of %d bytes" % (mode, payload))
        lines += ["%s:" % what.capitalize(), ""]
        lines += table(["subject", "version", unit, "min to max", "GB/s", "cpu ns", "p50 / p99 ns",
                        "ours / theirs"], rows)
    return lines


def stage_tables(data):
    if data["command"] == "ring":
        return ring_tables(data)
    if data["command"] == "block":
        return work_tables(data, "requests", 1e3, "thousand/s")
    if data["command"] == "net":
        return work_tables(data, "frames", 1e6, "million/s")
    if data["command"] == "channel":
        return channel_tables(data)
    return plain_table(data) if data["command"] == "resume" else metric_table(data)


# ---- losses ----

def losses_of(stage, reasons):
    """Where somebody else is ahead: subject, place, ratio, reason."""
    data, found = stage["result"], []
    if not data:
        return found
    for r in data["results"]:
        if (r["metric"] not in ("throughput", "requests", "frames") or "ratio_median" not in r
                or r["subject"].startswith("vmbus") or data["command"] == "isolation"):
            continue
        if r["ratio_median"] >= AHEAD:
            continue
        where = ("%s, %d B, batch %d" % (r["mode"], r["payload"], r["batch"])
                 if data["command"] != "net" else "%s, %d B" % (r["mode"], r["payload"]))
        found.append({"stage": data["command"], "subject": r["subject"], "where": where,
                      "ratio": r["ratio_median"], "unsteady": r["unsteady"],
                      "reason": reasons.find(data["command"], r["subject"], where)})
    if data["command"] not in ("ring", "block", "net"):
        for verdict, what, detail in goals_of(stage):
            if verdict == "not met":
                found.append({"stage": data["command"], "subject": "goal", "where": what,
                              "ratio": None, "detail": detail, "unsteady": False,
                              "reason": reasons.find(data["command"], "goal", what)})
    return found


def loss_lines(losses):
    lines = ["## Where ours is behind, and why", ""]
    if not losses:
        return lines + ["Nowhere, in what was measured here.", ""]
    groups = {}
    for loss in sorted(losses, key=lambda one: one["subject"].startswith("limit.")):
        if loss["unsteady"]:
            continue
        groups.setdefault((loss["stage"], loss["subject"], loss["reason"]), []).append(loss)
    for (stage, subject, reason), group in groups.items():
        where = "; ".join(
            "%s: %s" % (loss["where"],
                          loss["detail"] if loss["ratio"] is None else "%.2f" % loss["ratio"])
            for loss in group)
        name = "a goal that is not met" if subject == "goal" else "`%s`" % subject
        if subject.startswith("limit."):
            name = "the limit " + name
        lines.append("- **%s, %s** (%s).  %s" % (stage, name, where,
                                               reason or "No reason is recorded in bench/reasons."))
    if not groups:
        lines.append("Nowhere, among the comparisons that are steady.")
    unsteady = sum(loss["unsteady"] for loss in losses)
    if unsteady:
        lines += ["", "%d more comparison%s below 1, and unsteady: not judged."
                  % (unsteady, " is" if unsteady == 1 else "s are")]
    return lines + [""]


# ---- what was recorded elsewhere ----

def nested_kvm(root, folder):
    """vmbus-bench kvm in the nested machine; ./check --full vm leaves its file."""
    for path in (os.path.join(root, "build", "vm", "logs", "bench", "report.json"),
                 os.path.join(root, "docs", "performance", "kvm-nested.json")):
        try:
            with open(path, encoding="utf-8") as f:
                data = json.load(f)
        except (OSError, ValueError):
            continue
        if data.get("command") != "kvm":
            continue
        with open(os.path.join(folder, "kvm-nested.json"), "w", encoding="utf-8") as f:
            json.dump(data, f, indent=1)
            f.write("\n")
        host = data["host"]
        return ["`vmbus-bench kvm` in it, %s, %s %s, %s ([kvm-nested.json](kvm-nested.json)):"
                % (host["processor"], host["system"], host["kernel"], host["time"]), ""] \
            + metric_table(data)
    return ["`vmbus-bench kvm` in it: no file; `./check --full vm` leaves one.", ""]


NESTED = re.compile(r"pass ((boot-\S+-1|disk-bench|net-bench|provider\S*|uio\S*|save\S*) .*)$")


def nested_lines(root, folder):
    """The nested machine is emulated: its figures are counts, or compare with others in it."""
    folder_of = os.path.join(root, "docs", "results")
    path = os.path.join(folder_of, "vm-scenarios.txt")
    if not os.path.exists(path):
        path = os.path.join(folder_of, "vm.txt")
    lines = ["## In the nested machine", ""]
    if not os.path.exists(path):
        return lines + ["Nothing is recorded in `docs/results`; `./check --full vm` does.", ""]
    with open(path, encoding="utf-8") as f:
        text = f.read().split("\n")
    head = dict(t.split(": ", 1) for t in text if re.match(r"(date|machine|command): ", t))
    lines += ["Recorded %s by `%s` (%s), not by this run.  That machine is emulated, so times are long;"
              " counts, and comparisons within it, hold." % (head.get("date", "?"),
                                                             head.get("command", "?"),
                                                             head.get("machine", "?")), ""]
    rows = [m.group(1).split(" ", 1) for m in (NESTED.match(t) for t in text) if m]
    rows = [(name, re.sub(r" \(\d+ s after the machine's start\)(, \S+, sources \w+)?$", "", what)
             .rstrip("; ")) for name, what in rows]
    return lines + nested_kvm(root, folder) + table(["scenario", "result"], [("`%s`" % n, w.replace("|", "/")) for n, w in rows])


def budget_lines(root):
    rows = {}
    with open(os.path.join(root, "bench", "budget"), encoding="utf-8") as f:
        for text in f:
            parts = text.split("#")[0].split()
            if parts:
                rows.setdefault(" ".join(parts[:-2]), {})[parts[-2]] = parts[-1]
    return ["## Instructions", "", "Of the library's own functions for a packet of 64 bytes, a request"
            " of 4 KiB or a frame, as `./check budget` counts and enforces them:", ""] + table(
                ["path", "batch 32", "batch 1"],
                [(n, v.get("batch-32", "-"), v.get("batch-1", "-")) for n, v in rows.items()])


# ---- the page ----

def head_lines(report):
    data = next((s["result"] for s in report["stages"] if s["result"]), None)
    lines = ["<!-- SPDX-License-Identifier: MIT -->",
             "<!-- Written by ./run --report --record; reasons are in bench/reasons. -->",
             "# Performance", ""]
    if data:
        host = data["host"]
        ours = next(r for r in data["results"] if r["subject"].startswith("vmbus"))
        lines += ["libvmbus %s on %s, %d processors, %s %s; %s; %s.  Made by `./run --report`."
                  % (ours["version"], host["processor"], host["processors"], host["system"],
                     host["kernel"], host["compiler"], host["time"]), ""]
    if report["quick"]:
        lines += ["**A quick run, to see that all stages work: its figures say nothing.**", ""]
    return lines + [
        "Figures are true for this machine in that hour; compare within a table, not between runs."
        "  Subjects alternate in rounds; a ratio is the median over pairs of the same round.  `u` is"
        " unsteady: other work took the processors or a cache line's round trip moved, so the figure"
        " is not judged.  [bench-schema.md](../bench-schema.md) says what each subject is, and"
        " vmbus-bench(1) how it is measured.  All figures: [report.json](report.json).", ""]


def summary_table(report):
    rows = []
    for stage in report["stages"]:
        run, lines = stage["run"], goals_of(stage)
        total = count(lines)
        name = TITLES[run["stage"]]
        if not stage["result"]:
            rows.append([name, "not measured: " + run["why"], "", "", "", run["time"], "", "", ""])
            continue
        missing = ", ".join(p["subject"] for p in stage["result"]["missing_peers"]) or "none"
        rows.append([name] + [total.get(v, 0) for v in ("met", "not met", "unsteady",
                                                       "not measured")]
                    + [run["time"], "%.0f s" % run["seconds"], run["load_before"], missing])
    return table(["stage", "goals met", "not met", "unsteady", "not measured", "ended", "took",
                  "load before", "peers missing"], rows)


def stage_lines(stage):
    run, data = stage["run"], stage["result"]
    name = run["stage"]
    lines = ["## " + TITLES[name], "", INTRO[name], ""]
    if not data:
        return lines + ["Not measured: %s." % run["why"], ""]
    if data["out_of_time"]:
        lines += ["Repeats of unsteady pairs were given up to end in time.", ""]
    lines += ["![%s](%s.svg)" % (TITLES[name], name), ""]
    lines += stage_tables(data)
    for c in data["left_out"]:
        if name == "kvm":
            lines += ["Left out: %s." % c["why"], ""]
    goals = [g for g in goals_of(stage)]
    if goals:
        lines += ["Goals:", ""]
        lines += table(["goal", "figure", "verdict"],
                       [(what, detail, "**not met**" if v == "not met" else v)
                        for v, what, detail in goals])
    return lines


def write(report, folder, root):
    reasons = Reasons(os.path.join(HERE, "reasons"))
    losses = [loss for s in report["stages"] for loss in losses_of(s, reasons)]
    report["losses"] = losses
    report["goals"] = [{"stage": s["run"]["stage"], "verdict": v, "what": w, "detail": d}
                       for s in report["stages"] for v, w, d in goals_of(s)]
    lines = head_lines(report) + summary_table(report) + loss_lines(losses)
    for stage in report["stages"]:
        lines += stage_lines(stage)
    lines += nested_lines(root, folder) + budget_lines(root)
    with open(os.path.join(folder, "report.md"), "w", encoding="utf-8") as f:
        f.write("\n".join(lines).rstrip() + "\n")
    with open(os.path.join(folder, "report.json"), "w", encoding="utf-8") as f:
        json.dump(report, f, indent=1)
        f.write("\n")


def summary(report):
    """What the terminal shows at the end."""
    total = count((g["verdict"], "", "") for g in report["goals"])
    for stage in report["stages"]:
        name = stage["run"]["stage"]
        if not stage["result"]:
            print("  %-10s not measured: %s" % (name, stage["run"]["why"]))
            continue
        here = count(goals_of(stage))
        print("  %-10s %s" % (name, ", ".join("%d %s" % (n, v) for v, n in sorted(here.items()))))
    for g in report["goals"]:
        if g["verdict"] == "not met":
            print("  NOT MET: %s: %s: %s" % (g["stage"], g["what"], g["detail"]))
    print("Goals: " + ", ".join("%d %s" % (n, v) for v, n in sorted(total.items())))
    if total.get("unsteady", 0):
        print("What is unsteady is to be measured again when the machine has nothing else to do: "
              "./run --report -- STAGE")
