#!/usr/bin/python3
"""Writes the manual pages from what the programs say of themselves, so that no page says anything else: their --help, and
the comments of taskpool.example.toml. They are compressed, as Debian wants them and man(1) reads them.

    manual.py BIN_DIRECTORY EXAMPLE_TOML VERSION OUTPUT_DIRECTORY
"""

import gzip
import os
import re
import subprocess
import sys


def escape(text):
    """Text for troff: backslashes, hyphens that are to be copied, and no request at the start of a line."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join("\\&" + line if line[:1] in (".", "'") else line for line in text.split("\n"))


def literal(lines):
    """Lines as they stand, indented."""
    body = "\n".join(lines).strip("\n")
    return f".RS 4\n.nf\n{escape(body)}\n.fi\n.RE\n"


def paragraphs(lines):
    """Blocks of text between empty lines; an indented block stays as it stands."""
    blocks = [block for block in re.split(r"\n\s*\n", "\n".join(lines)) if block.strip()]
    return ".PP\n".join(literal(block.split("\n")) if block.startswith("  ") else escape(" ".join(block.split())) + "\n" for block in blocks)


def options(lines):
    """`  -x, --name ARG   what it does`, whose text may go on below, as tagged paragraphs. A line without indentation is a heading."""
    entries = []
    for line in lines:
        if not line.strip():
            continue
        if not line.startswith(" "):
            entries.append((None, [line.rstrip(":")]))
            continue
        indent = len(line) - len(line.lstrip())
        if indent <= 4:
            tag, _, text = line.strip().partition("  ")
            entries.append((tag, [text.strip()] if text.strip() else []))
        elif entries:
            entries[-1][1].append(line.strip())
    written = ""
    for tag, text in entries:
        text = escape(" ".join(text))
        written += f".SS {text}\n" if tag is None else f".TP\n\\fB{escape(tag)}\\fR\n{text}\n"
    return written


def sections(text):
    """[(title, lines)] of a help text; what stands before the first `Title:` line has the title ''. A usage's lines begin on the title's."""
    found = [("", [])]
    for line in text.split("\n"):
        title = re.fullmatch(r"(Usage|Examples|Options|Commands|Keys of the file):\s*(.*)", line)
        if title:
            found.append((title[1], [title[2]] if title[2] else []))
        else:
            found[-1][1].append(line)
    return found


def said_by(*command):
    """What a program prints on standard output; its columns do not depend on a terminal."""
    return subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "100"}).stdout


def page(name, section, version, summary, body):
    return (f'.TH "{name.upper()}" {section} "" "taskpool {version}" "taskpool"\n'
            f".SH NAME\n{name} \\- {escape(summary)}\n{body}")


def program(help_text):
    """The sections of a page whose program says all in one --help."""
    body = ""
    for title, lines in sections(help_text):
        if title == "":
            body += ".SH DESCRIPTION\n" + paragraphs(lines)
        elif title == "Usage":
            body += ".SH SYNOPSIS\n" + literal(lines)
        elif title == "Examples":
            body += ".SH EXAMPLES\n" + literal(lines)
        else:
            body += f".SH {title.upper()}\n" + options(lines)
    return body


def command_line(taskpool):
    """taskpool(1): the program's own help, then a subsection for each command."""
    top = said_by(taskpool, "help")
    parts = dict((title, lines) for title, lines in sections(top))
    names, tail = [], []
    for line in parts["Commands"]:
        entry = re.match(r"  (\S+)\s{2,}\S", line)
        if entry:
            names.append(entry[1])
        else:
            tail.append(line)
    body = ".SH SYNOPSIS\n" + literal(parts["Usage"])
    body += ".SH DESCRIPTION\n" + paragraphs(parts[""]) + ".PP\n" + paragraphs(tail)
    body += ".SH EXAMPLES\n" + literal(parts["Examples"]) + ".SH COMMANDS\n"
    for name in names:
        body += f".SS {escape('taskpool ' + name)}\n"
        for title, lines in sections(said_by(taskpool, "help", name)):
            if title == "":
                body += paragraphs(lines)
            elif title == "Options":
                body += options(lines)
            elif title == "Usage":
                blank = lines.index("")
                body += literal(lines[:blank]) + ".PP\n" + paragraphs(lines[blank:])
            else:
                body += literal(lines)
    return body


def configuration(example):
    """taskpool.toml(5). A comment is the text of the keys that follow it at once; one that no key follows is a paragraph."""
    with open(example) as file:
        lines = file.read().split("\n")
    body, comment, keys = ".SH DESCRIPTION\n", [], []

    def flush():
        nonlocal comment, keys
        text = paragraphs(comment)
        if keys:
            text = ".TP\n" + "\n.TQ\n".join(f"\\fB{escape(key)}\\fR" for key in keys) + "\n" + text
        elif text:
            text = ".PP\n" + text
        comment, keys = [], []
        return text

    for line in lines:
        if line.startswith("#"):
            if keys:
                body += flush()
            comment.append(line[1:].removeprefix(" "))
        elif line.startswith("["):
            text = flush()
            body += f".SH {escape(line)}\n{text}"
        elif line:
            keys.append(line)
        else:
            body += flush()
    return body + flush()


def main(binaries, example, version, output):
    def path(name):
        return os.path.join(binaries, name)

    pages = {
        "taskpool.1": page("taskpool", 1, version, "run functions and commands on a pool of warm worker processes",
                           command_line(path("taskpool")) + ".SH SEE ALSO\n.BR taskpoold (8),\n.BR taskpool.toml (5)\n"),
        "taskpoold.8": page("taskpoold", 8, version, "the taskpool daemon",
                            program(said_by(path("taskpoold"), "--help")) +
                            ".SH SEE ALSO\n.BR taskpool (1),\n.BR taskpool.toml (5),\n.BR taskpool\\-runtime (8)\n"),
        "taskpool-runtime.8": page("taskpool-runtime", 8, version, "what runs taskpool's tasks",
                                   program(said_by(path("taskpool-runtime"), "--help")) + ".SH SEE ALSO\n.BR taskpoold (8)\n"),
        "taskpool.toml.5": page("taskpool.toml", 5, version, "configuration of the taskpool daemon",
                                configuration(example) + ".SH SEE ALSO\n.BR taskpoold (8)\n"),
    }
    runtime = path("taskpool-runtime-python")
    if os.path.exists(runtime):
        pages["taskpool-runtime-python.8"] = page("taskpool-runtime-python", 8, version, "what runs taskpool's Python tasks",
                                                  program(said_by(runtime, "--help")) +
                                                  ".SH SEE ALSO\n.BR taskpoold (8),\n.BR taskpool.toml (5)\n")
    os.makedirs(output, exist_ok=True)
    for name, text in pages.items():
        with open(os.path.join(output, name + ".gz"), "wb") as file:
            file.write(gzip.compress(text.encode(), mtime=0))


if __name__ == "__main__":
    main(*sys.argv[1:])
