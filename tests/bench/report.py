"""What was measured, as a table, as JSON, as a picture, as the README's section; and two runs beside each other.

A result is a list of rows: {"chapter", "row", "metrics": {name: {"unit", "better"}}, "parties": {name: [rounds]},
"left_out": {name: reason}}.  Each round is a dictionary of figures.
"""

import json
import os
import re
import statistics
import subprocess

NAMES = {"pgreserve": "pgreserve", "pgbouncer": "PgBouncer", "haproxy": "HAProxy TCP", "pgpool": "Pgpool-II",
         "none": "no proxy", "relay": "bare relay"}


def median(row, party, metric):
    figures = [one[metric] for one in row["parties"].get(party, []) if metric in one]
    return statistics.median(figures) if figures else None


def spread(row, party, metric):
    """Half the distance from the lowest to the highest round, over the median."""
    figures = [one[metric] for one in row["parties"].get(party, []) if metric in one]
    middle = statistics.median(figures)
    return (max(figures) - min(figures)) / 2 / middle if len(figures) > 1 and middle else 0.0


def number(value):
    if value is None:
        return "-"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def ratio(row, metric):
    """Ours over PgBouncer's: the median of the rounds' own ratios, for a machine drifts from round to round."""
    ours, theirs = (row["parties"].get(name, []) for name in ("pgreserve", "pgbouncer"))
    ratios = [a[metric] / b[metric] for a, b in zip(ours, theirs) if a.get(metric) and b.get(metric)]
    return statistics.median(ratios) if ratios else None


def cell(row, party, metric):
    value = median(row, party, metric)
    if value is None:
        return "n/a"
    return f"{number(value)} ±{100 * spread(row, party, metric):.0f}%"


def print_row(row, parties, is_first):
    if is_first:
        print(f"\n{row['chapter']}\n  {'':44}" + "".join(f"{NAMES[party]:>16}" for party in parties)
              + f"{'ours/PgBouncer':>16}", flush=True)
    for metric, about in row["metrics"].items():
        by = ratio(row, metric)
        print(f"  {row['row'] + ', ' + about:44}" + "".join(f"{cell(row, party, metric):>16}" for party in parties)
              + f"{'-' if by is None else f'{by:.3f}':>16}", flush=True)


def print_reasons(rows):
    reasons = {}
    for row in rows:
        for party, reason in row["left_out"].items():
            reasons.setdefault((NAMES[party], reason), []).append(f"{row['chapter']}: {row['row']}")
    if reasons:
        print("\nLeft out")
    for (party, reason), where in reasons.items():
        print(f"  {party}: {reason} ({len(where)} rows, such as {where[0]})")


# -- two runs ---------------------------------------------------------------------------------------


def load(path):
    with open(path) as file:
        return json.load(file)


def compare(before, after):
    """Each figure of ours in both runs; a difference within the spread of either is no difference."""
    rows = {(row["chapter"], row["row"]): row for row in before["rows"]}
    print(f"{'pgreserve':72}{'before':>12}{'after':>12}{'change':>10}")
    for row in after["rows"]:
        old = rows.get((row["chapter"], row["row"]))
        for metric, about in row["metrics"].items():
            then, now = (median(one, "pgreserve", metric) if one else None for one in (old, row))
            if then is None or now is None:
                continue
            noise = max(spread(old, "pgreserve", metric), spread(row, "pgreserve", metric))
            change = now / then - 1 if then else 0.0
            mark = "" if abs(change) <= noise else " *"
            print(f"{row['chapter'] + ': ' + row['row'] + ', ' + about:72}{number(then):>12}{number(now):>12}"
                  f"{100 * change:>+9.1f}%{mark}")
    print("* more than the spread of the rounds")


# -- the picture ------------------------------------------------------------------------------------

PLOT = """set terminal svg size 900,680 enhanced font 'sans,12' background '#ffffff'
set output '{output}'
set multiplot layout 2,2
set style data histogram
set style histogram clustered gap 1
set style fill solid 0.9 border -1
set boxwidth 0.9
set grid ytics lc rgb '#dddddd'
set key above horizontal center samplen 2
set xtics rotate by -25 nomirror
set yrange [0:*]
set datafile missing '-'
"""
COLOURS = {"pgreserve": "#2a6f97", "pgbouncer": "#e09f3e", "haproxy": "#7a9e7e", "pgpool": "#9e2a2b",
           "none": "#bbbbbb", "relay": "#444444"}
PANELS = (
    ("CPU microseconds a transaction, simple protocol", "Throughput and CPU", r"select, simple, (\d+) clients?$", "cpu_us"),
    ("CPU microseconds a transaction, extended protocol", "Throughput and CPU", r"select, extended, (\d+) clients?$",
     "cpu_us"),
    ("CPU seconds for a GB of COPY", "Bulk", r"COPY (.*)$", "cpu_s_per_gb"),
    ("Memory of an idle client, kB", "Idle clients", r"(.*)$", "bytes_per_client"),
)


def picture(result, path):
    """An SVG by gnuplot; False when there is none."""
    script = PLOT.format(output=path)
    for title, chapter, pattern, metric in PANELS:
        rows = [(re.search(pattern, row["row"]).group(1), row) for row in result["rows"]
                if row["chapter"] == chapter and re.search(pattern, row["row"])]
        shown = [party for party in NAMES if party != "none" and any(median(row, party, metric) for _, row in rows)]
        if not rows or not shown:
            continue
        scale = 1000 if metric == "bytes_per_client" else 1
        lines = []
        for label, row in rows:
            values = [median(row, party, metric) for party in shown]
            label = label.replace(" rows", "").replace(",", "")
            lines.append(f'"{label}" ' + " ".join("-" if value is None else f"{value / scale:.3f}" for value in values))
        name = "$data" + re.sub(r"\W", "", title)
        script += f"{name} << EOD\n" + "\n".join(lines) + f"\nEOD\nset title '{title}'\nplot " + ", ".join(
            f"{name} using {i + 2}:xtic(1) title '{NAMES[party]}' lc rgb '{COLOURS[party]}'"
            for i, party in enumerate(shown)) + "\n"
    try:
        subprocess.run(["gnuplot"], input=script + "unset multiplot\n", text=True, check=True, capture_output=True)
    except OSError:
        return False
    except subprocess.CalledProcessError as error:
        print(f"gnuplot: {error.stderr.strip()}")
        return False
    return True


# -- the README -------------------------------------------------------------------------------------

BEGIN, END = "<!-- bench: from here on written by tests/bench/bench.py -->", "<!-- bench: to here -->"
SHOWN = (  # (chapter, row, metric, what the reader sees)
    ("Throughput and CPU", "select, simple, 1 client", "median_us", "latency, 1 client, median, µs"),
    ("Throughput and CPU", "select, simple, 1 client", "p99_us", "the same, 99 %"),
    ("Throughput and CPU", "select, simple, 50 clients", "tps", "transactions a second, 50 clients"),
    ("Throughput and CPU", "select, simple, 500 clients", "tps", "the same, 500 clients"),
    ("Throughput and CPU", "select, simple, 50 clients", "cpu_us", "CPU a transaction, 50 clients, µs"),
    ("Throughput and CPU", "select, simple, 500 clients", "cpu_us", "the same, 500 clients"),
    ("Throughput and CPU", "select, extended, 500 clients", "cpu_us", "the same, extended protocol"),
    ("Throughput and CPU", "select, prepared, 500 clients", "cpu_us", "the same, prepared statements"),
    ("Throughput and CPU", "select, simple, 5000 clients", "cpu_us", "the same, 5,000 clients, simple"),
    ("System calls", "select, simple, 500 clients", "calls", "system calls a transaction, 500 clients"),
    ("Logins", "connect, trust, query, leave", "cpu_us", "CPU to connect, query and leave, µs"),
    ("Logins", "connect, SCRAM, query, leave", "cpu_us", "the same with SCRAM"),
    ("Logins", "connect, SCRAM over TLS, query, leave", "cpu_us", "the same over TLS"),
    ("Idle clients", "plain", "bytes_per_client", "memory of an idle client, bytes"),
    ("Idle clients", "TLS", "bytes_per_client", "the same with TLS"),
    ("Bulk", "COPY out, large rows", "cpu_s_per_gb", "CPU for a GB of COPY out, s"),
    ("Bulk", "COPY in, large rows", "cpu_s_per_gb", "the same in"),
    ("Bulk", "COPY out, large rows, TLS", "cpu_s_per_gb", "the same out over TLS"),
    ("Queue", "500 clients, 50 backends", "longest_over_median", "longest wait over median wait, 500 clients"),
    ("Far upstream", "changed settings", "added", "round trips added, settings changed"),
    ("Far upstream", "pre-ping on", "added", "round trips added, connection checked"),
)


def markdown(result):
    rows = {(row["chapter"], row["row"]): row for row in result["rows"]}
    shown = [party for party in NAMES if any(row["parties"].get(party) for row in result["rows"])]
    machine = result["machine"]
    spreads = [spread(rows[chapter, name], party, metric) for chapter, name, metric, _ in SHOWN if (chapter, name) in rows
               for party in shown if len(rows[chapter, name]["parties"].get(party, [])) > 1]
    lines = [f"Debian's {', '.join(f'{NAMES[name]} {version}' for name, version in result['versions'].items() if version and name != 'pgreserve')};"
             f" PostgreSQL {result['postgresql']}; {machine['cpu']}, {machine['cores']} cores; medians of"
             f" {result['rounds']} interleaved rounds, which spread by"
             f" {100 * statistics.median(spreads):.0f} % as a rule. CPU is the proxy's own.", "",
             "| | " + " | ".join(NAMES[party] for party in shown) + " |", "|---|" + "---:|" * len(shown)]
    for chapter, name, metric, label in SHOWN:
        row = rows.get((chapter, name))
        if row:
            values = [number(median(row, party, metric)) for party in shown]
            if "none" in shown and (metric.startswith("cpu") or metric == "calls"):
                values[shown.index("none")] = "-"
            lines.append(f"| {label} | " + " | ".join(values) + " |")
    lines += ["", "![CPU of each proxy by clients, for bulk, and memory of idle clients](docs/bench.svg)"]
    return "\n".join(lines)


def write_readme(result, path):
    """Puts the table between the two marks; False when they are not there."""
    with open(path) as file:
        text = file.read()
    if BEGIN not in text or END not in text:
        return False
    head, rest = text.split(BEGIN, 1)
    with open(path, "w") as file:
        file.write(head + BEGIN + "\n" + markdown(result) + "\n" + END + rest.split(END, 1)[1])
    return True


def write_json(result, path):
    with open(path + ".new", "w") as file:
        json.dump(result, file, indent=1)
    os.replace(path + ".new", path)
