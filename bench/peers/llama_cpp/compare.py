"""Sets our figures beside llama.cpp's: both measured by run.sh, one after the other.

usage: compare.py SHAPE LLAMA_BENCH.json PREFILL.json DECODE.json [RECORD.json]
"""

import json
import sys


def figure(report, name, key):
    return next(line["figures"][key] for line in report["lines"] if line["name"] == name)


def main():
    shape = sys.argv[1]
    peer, prefill, decode = (json.load(open(path)) for path in sys.argv[2:5])
    rows = []
    for test in peer:
        if test["n_gen"] == 0:
            name, ours = f"prefill {test['n_prompt']}", figure(prefill, f"model {test['n_prompt']}", "tokens/s")
        else:
            name, ours = "decode", figure(decode, "model at 128", "tokens/s")
        rows.append(dict(name=name, kvasir=ours, llama_cpp=test["avg_ts"], llama_cpp_stddev=test["stddev_ts"],
                         ratio=ours / test["avg_ts"]))
    print(f"{shape}: tokens/s on {prefill['machine']}, {prefill['isa']}, {prefill['threads']} threads, bf16")
    for row in rows:
        print(f"  {row['name']:<14} kvasir {row['kvasir']:>9.1f}   llama.cpp {row['llama_cpp']:>8.1f}   "
              f"ratio {row['ratio']:.2f}")
    if len(sys.argv) > 5:
        record = {key: prefill[key] for key in ("machine", "isa", "threads", "commit", "compiler", "date")}
        record = dict(benchmark=f"beside llama.cpp, {shape}", **record, llama_cpp_build=peer[0]["build_number"],
                      lines=rows)
        with open(sys.argv[5], "w") as file:
            json.dump(record, file, indent=1)
            file.write("\n")


main()
