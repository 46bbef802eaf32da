"""Renders every template of data/templates with every conversation of data/conversations as
transformers' apply_chat_template does.

usage: template_oracle.py OUT
OUT: {template: {conversation: {"text": ...} | {"refused": raise_exception's message} | {"fails": true}}}
data/expected.json is such a file.
"""

import datetime
import json
import pathlib
import sys

import jinja2
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

DATA = pathlib.Path(__file__).parent / "data"


class FixedClock(datetime.datetime):
    """What strftime_now sees."""

    @classmethod
    def now(cls, tz=None):
        return cls(2031, 2, 3, 4, 5, 6)


chat_template_utils.datetime = FixedClock


def render(tokenizer, template, conversation):
    conversation = dict(conversation)
    messages = conversation.pop("messages")
    try:
        text = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False,
                                             **conversation)
        return {"text": text}
    except jinja2.exceptions.TemplateError as error:
        if type(error) is jinja2.exceptions.TemplateError:
            return {"refused": str(error)}
        return {"fails": True}
    except (TypeError, ValueError, OverflowError, ZeroDivisionError, AttributeError):
        return {"fails": True}


def main():
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), bos_token="<s>",
                                        eos_token="</s>")
    conversations = {path.stem: json.loads(path.read_text())
                     for path in sorted((DATA / "conversations").glob("*.json"))}
    expected = {}
    for path in sorted((DATA / "templates").glob("*.jinja")):
        template = path.read_text()
        expected[path.stem] = {name: render(tokenizer, template, conversation)
                               for name, conversation in conversations.items()}
    pathlib.Path(sys.argv[1]).write_text(
        json.dumps(expected, ensure_ascii=False, indent=1, sort_keys=True) + "\n")


main()
