"""Renders random templates as transformers does.

usage: template_random_oracle.py OUT [SEED]
OUT: JSON list of [template, text, or null where it fails], for data/conversations/tools.json
"""

import copy
import json
import pathlib
import random
import re
import sys
import warnings

from transformers.utils.chat_template_utils import _compile_jinja_template

DATA = pathlib.Path(__file__).parent / "data"
COUNT = 3000
PREAMBLE = ("{% set x = 1 %}{% set s = 'a b,c' %}{% set n = 4 %}{% set l = [3, 'b', none, 1.5] %}"
            "{% set d = {'a': 1, 'b': 'x', 'role': 'user'} %}{% set ns = namespace(x=0) %}")
# What prints an address or a type of Python's, or is refused here by name.
SKIPPED = re.compile(r"0x[0-9a-f]{6,}|object at|<bound|<built-in|Macro|LoopContext|generator|"
                     r"<function|method|Namespace", re.IGNORECASE)

NAMES = ["messages", "tools", "missing", "x", "n", "s", "l", "d", "bos_token", "messages[0]",
         "messages[-1].role", "loop", "ns.x"]
CONSTANTS = ["true", "none", "false", "'a'", "'Ab c'", "' pad '", "'é漢😀'", "'a,b,,c'", "''", "'12'",
             "'3.5'", r"'x\n y\n'", "'<b>'", "'%s'", "'%d-%s'", "0", "1", "2", "7", "2.5", "10", "1e3"]
FILTERS = [
    "upper", "lower", "trim", "length", "first", "last", "list", "join", "join(',')", "tojson",
    "tojson(indent=2)", "string", "int", "float", "abs", "round", "round(1)", "sort", "reverse|list",
    "unique|list", "sum", "max", "min", "title", "capitalize", "default('d')", "default('d', true)",
    "items|list", "dictsort", "map('upper')|list", "map(attribute='role')|list", "map('length')|list",
    "select|list", "reject|list", "selectattr('role')|list", "selectattr('role', 'equalto', 'user')|list",
    "rejectattr('role')|list", "replace('a', 'b')", "indent", "wordcount", "batch(2)|list", "e", "safe",
    "center(7)", "truncate(4)", "count", "select('string')|list", "reject('none')|list",
    "groupby('role')", "map('string')|list", "format(1)"]
TESTS = ["defined", "undefined", "none", "string", "number", "mapping", "iterable", "sequence", "odd",
         "even", "divisibleby(2)", "true", "false", "boolean", "integer", "float", "callable",
         "in [1, 2]", "eq 1", "gt 1", "lower", "upper", "sameas none", "ne 'a'", "escaped"]
METHODS = ["strip()", "split()", "split(',')", "upper()", "startswith('a')", "endswith(('a', 'c'))",
           "replace('a', '')", "items()", "keys()|list", "values()|list", "get('role')", "get('z', 1)",
           "find('a')", "count('a')", "join(['p', 'q'])", "title()", "rstrip('c')", "splitlines()",
           "index(1)", "isdigit()", "lstrip()", "capitalize()", "partition(',')", "rsplit(',', 1)",
           "zfill(4)", "swapcase()", "removeprefix('a')", "isalnum()", "role", "content", "x", "a",
           "append(1)", "copy()"]
OPERATORS = ["+", "-", "*", "/", "//", "%", "~", "==", "!=", "<", ">", "<=", ">=", "in", "not in", "and",
             "or"]
CALLS = ["range(3)|list", "range(1, 5, 2)|list", "dict(a=1)", "namespace(x=1).x", "joiner()()", "m(1)",
         "m(b=2)", "m()", "m(1, 2, 3)", "(2 ** 3)", "(n ** 2)"]
TEXTS = ["text", " ", "\n", "  \n  ", "a\nb\n", "\t", "é", "{", "%}", "{# c #}", "{#- c -#}", "  {# c #}\n"]
pick = random.choice


def expression(depth):
    kind = random.random()
    if depth <= 0 or kind < 0.25:
        return pick(NAMES + CONSTANTS)
    inner = lambda: expression(depth - 1)
    few = lambda: ", ".join(inner() for _ in range(random.randint(0, 3)))
    if kind < 0.4:
        return f"{inner()} {pick(OPERATORS)} {inner()}"
    if kind < 0.46:
        return f"({inner()})"
    if kind < 0.6:
        return f"{inner()}|{pick(FILTERS)}"
    if kind < 0.66:
        return f"{inner()} is {pick(['', 'not '])}{pick(TESTS)}"
    if kind < 0.76:
        return f"{pick([pick(NAMES + CONSTANTS), f'({inner()})'])}.{pick(METHODS)}"
    if kind < 0.8:
        return pick(["not ", "-", "+"]) + inner()
    if kind < 0.84:
        return f"[{few()}]"
    if kind < 0.87:
        return f"({few()}{pick(['', ','])})"
    if kind < 0.9:
        return "{" + ", ".join(f"{pick(CONSTANTS)}: {inner()}" for _ in range(random.randint(0, 3))) + "}"
    if kind < 0.94:
        return f"{inner()} if {inner()}{pick([' else ' + inner(), ''])}"
    if kind < 0.97:
        return pick(NAMES) + "[" + pick(["1", "-1", "0", ":", "1:", ":2", ":-1", "::-1", "1::2", "'role'"]) + "]"
    return pick(CALLS)


def tag(content):
    return pick(["{% ", "{%- ", "{%+ ", "{%"]) + content + pick([" %}", " -%}", " +%}", "%}"])


def statement(depth):
    kind = random.random()
    if depth <= 0 or kind < 0.35:
        return pick(["{{ ", "{{- ", "{{"]) + expression(3) + pick([" }}", " -}}", "}}"])
    inside = lambda: body(depth - 1)
    if kind < 0.5:
        return pick(TEXTS)
    if kind < 0.62:
        more = pick(["", tag("else") + inside(), tag("elif " + expression(1)) + inside()])
        return tag("if " + expression(2)) + inside() + more + tag("endif")
    if kind < 0.76:
        looks = ["{{ loop." + name + " }}" for name in
                 ("index", "last", "length", "nextitem", "previtem", "revindex", "cycle(1, 2)")]
        head = f"for {pick(['x', 'x, y', 'n'])} in {expression(2)}{pick([' if ' + expression(1), '', ''])}"
        return (tag(head) + inside() + pick(["", pick(looks), tag("break"), tag("continue")]) +
                pick(["", tag("else") + inside()]) + tag("endfor"))
    if kind < 0.86:
        return tag(f"set {pick(['x', 's', 'l', 'd', 'n', 'x, y', 'ns.x'])} = {expression(2)}")
    if kind < 0.9:
        return tag(f"set {pick(['x', 's'])}{pick(['', '|upper', '|trim|length'])}") + inside() + tag("endset")
    if kind < 0.93:
        head = f"macro m(a{pick(['', ', b', ', b=1', ', b=a'])})"
        return (tag(head) + inside() + pick(["", "{{ a }}", "{{ varargs }}", "{{ kwargs }}", "{{ b }}"]) +
                tag("endmacro"))
    if kind < 0.95:
        return tag("filter " + pick(["upper", "trim", "indent", "replace('a', 'b')"])) + inside() + tag("endfilter")
    if kind < 0.97:
        return tag("with x = " + expression(1)) + inside() + tag("endwith")
    if kind < 0.98:
        return tag("raw") + "{{ x }}" + tag("endraw")
    return tag(f"call{pick(['', '(q)'])} m({expression(1)})") + inside() + tag("endcall")


def body(depth):
    return "".join(statement(depth) for _ in range(random.randint(1, 3)))


def render(template, variables):
    try:
        return _compile_jinja_template(template).render(**copy.deepcopy(variables))
    except Exception:  # whatever Python raises, the template fails
        return None


def main():
    warnings.filterwarnings("ignore")
    random.seed(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    variables = json.loads((DATA / "conversations/tools.json").read_text())
    variables |= dict(documents=None, bos_token="<s>", eos_token="</s>")
    cases = []
    for _ in range(COUNT):
        template = PREAMBLE + body(2)
        text = render(template, variables)
        if text is None or not SKIPPED.search(text):
            cases.append([template, text])
    pathlib.Path(sys.argv[1]).write_text(json.dumps(cases, ensure_ascii=False))


main()
