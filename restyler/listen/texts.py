"""What listeners read where the spec says nothing else."""

from __future__ import annotations

CONSENT = """You are invited to take part in a listening test. You will hear short excerpts of vocals and judge them.

Taking part is voluntary. You can stop at any time by closing the page, without giving a reason; what you have judged \
until then is kept unless you ask for its deletion. Your judgements are stored with the time they took and the \
comments you type, under a number, without your name. They are used for research and published in a form that does \
not identify you.

The sounds are brought to one loudness. Set a comfortable level at the beginning and leave it there. If you are in \
doubt about your hearing or your health, do not take part."""

INSTRUCTIONS = """Please use headphones, in a quiet room. Set a comfortable level once, at the beginning, and leave \
it there.

On every page, listen to each sound as often as you like; you can switch between sounds while they play, and loop a \
part. There are no right or wrong answers: judge what you hear. The order of the sounds is drawn at random, and some \
pages may come twice. Pages for practice come first; they do not count."""

FINISH = """Thank you. Your judgements are stored; you can close this page."""

QUESTIONS = {
    "mushra": "How good is each sound, compared with the reference? One of them is the reference itself.",
    "rating": "How good is each of these mixes of the vocal?",
    "ab": "Which one do you prefer?",
    "paired": "Which one do you prefer?",
    "similar": "Which one is more similar to the reference?",
    "abx": "Is X the same as A or as B?",
    "acr": "How good is the sound quality?",
    "ccr": "How good is the second sound, compared with the first?",
}
