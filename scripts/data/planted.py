"""Planted strings: texts that stand in a corpus a known number of times (config: data.components.<x>.planted)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from scripts.study.config_data import Planted

# everyday words, so that a tokenizer trained with them learns nothing odd
WORDS = """
    above across after again air all also always among answer any arm ask autumn away back bad bank base bear
    beauty bed before begin behind below best better between big bird black blood blue board boat body book both
    bottom bow box boy bread break bridge bright bring broad brother brown build burn busy buy call calm care
    carry cat chair chance change child choose circle city clean clear climb clock close cloud coat cold colour
    come common complete cook cool copy corn corner cost count country course cover cross cry cup cut dance dark
    daughter day dead deal dear deep desert did door double down draw dream dress drink drive drop dry during
    each ear early earth east easy eat edge egg eight either else empty end enemy engine enough enter equal even
    evening ever every eye face fact fair fall family far farm fast father fear feel feet few field fight fill
    final find fine finger finish fire first fish five flat floor flow flower fly follow food foot force forest
    form forward four free fresh friend front fruit full game garden gate gather gentle girl give glad glass
    gold good grass great green ground group grow guess guide hair half hand happen happy hard harvest hat head
    hear heart heat heavy help here high hill history hold hole home hope horse hot hour house human hundred
    hunt hurry ice idea inch iron island join joy judge jump just keep key kind king kitchen knee know lady lake
    land language large last late laugh law lay lead leaf learn least leave left leg length less letter level
    lie life lift light line lion list listen little live long look lost loud love low machine main make man
    many map mark market master matter may meal mean measure meat meet melody middle might mile milk mind minute
    mirror moment money month moon morning most mother mountain mouth move much music name narrow nation near
    neck need never new next night nine noise north nose note nothing notice now number oak ocean off offer
    office often oil old once one only open orange order other our out over own page paint pair paper part party
    pass past path pay peace pen people perhaps person picture piece place plain plan plant play please point
    poor possible power present press pretty price proud pull push put queen question quick quiet rain raise
    reach read ready real reason red remember rest rice rich ride right ring rise river road rock roll roof room
    root rope rose round row rule run safe sail salt same sand save say school sea season seat second see seed
    seem sell send seven shade shape sharp ship shoe shop shore short shoulder show side silver simple since
    sing sister sit six skin sky sleep slow small smile smoke snow soft soil soldier some son song soon sound
    south speak spell spend spring square stand star start station stay steel step stick still stone stop store
    storm story straight strange street strong summer sun sure sweet swim table tail take talk tall taste teach
    tell ten thank thick thin thing think third thousand three through throw tie time tiny today together tool
    top touch town trade train travel tree trip true trust try turn twelve two under until up use valley very
    village visit voice wait walk wall want war warm wash watch water wave way wear weather week west wheel when
    white whole why wide wild wind window wine wing winter wise wish wonder wood word work world yard year
    yellow young
""".split()
ORIGIN = re.compile(r"planted-(\d+)-(\d+)#\d+")


@dataclass(frozen=True)
class String:
    """A text, how often it is planted, and the number of it among those with that count."""

    text: str
    count: int
    number: int

    @property
    def origins(self) -> Iterator[str]:
        """The origin of each copy: planted-<count>-<number>#<copy>."""
        return (f"planted-{self.count}-{self.number}#{copy}" for copy in range(self.count))


def strings(planted: Planted) -> Iterator[String]:
    """All strings; each depends on the seed, its count and its number alone."""
    for count in planted.counts:
        for number in range(planted.strings):
            random = np.random.default_rng([planted.seed, count, number])
            chosen = random.integers(0, len(WORDS), planted.words)
            yield String(" ".join(WORDS[word] for word in chosen) + "\n", count, number)


def planted_count(origin: str) -> int:
    """How often the string of a document of this origin was planted; 0 of any other origin."""
    found = ORIGIN.fullmatch(origin)
    return int(found[1]) if found else 0
