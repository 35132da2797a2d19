"""Lists the 28 classes of AVE in the order of every published file and checkpoint.

It reads no label file. Never derive a class index from sorted names.
"""

from __future__ import annotations

from streamav.bundle.card import ClassEntry

__all__ = ["AVE_CLASSES"]

AVE_CLASSES: tuple[ClassEntry, ...] = tuple(
    ClassEntry(slug=slug, name=name)
    for slug, name in (
        ("church_bell", "Church bell"),
        ("male_speech", "Male speech, man speaking"),
        ("bark", "Bark"),
        ("airplane", "Fixed-wing aircraft, airplane"),
        ("race_car", "Race car, auto racing"),
        ("female_speech", "Female speech, woman speaking"),
        ("helicopter", "Helicopter"),
        ("violin", "Violin, fiddle"),
        ("flute", "Flute"),
        ("ukulele", "Ukulele"),
        ("frying_food", "Frying (food)"),
        ("truck", "Truck"),
        ("shofar", "Shofar"),
        ("motorcycle", "Motorcycle"),
        ("acoustic_guitar", "Acoustic guitar"),
        ("train_horn", "Train horn"),
        ("clock", "Clock"),
        ("banjo", "Banjo"),
        ("goat", "Goat"),
        ("baby_cry", "Baby cry, infant cry"),
        ("bus", "Bus"),
        ("chainsaw", "Chainsaw"),
        ("cat", "Cat"),
        ("horse", "Horse"),
        ("toilet_flush", "Toilet flush"),
        ("rodents", "Rodents, rats, mice"),
        ("accordion", "Accordion"),
        ("mandolin", "Mandolin"),
    )
)
"""The foreground classes, in class_id order; index 28 is background and is not listed.

Source: AVE-ECCV18 data/Annotations.txt, order of first appearance = columns of mil_labels.h5.
"""
