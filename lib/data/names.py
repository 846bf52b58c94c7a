"""Two sites that know the same professors by different names: generated profiles, with the truth known.

    lists = read()                                        # the words that names are made of
    sites = two_sites(lists, n=1000, noise=0.15, rng=np.random.default_rng(0))
    sites.school.names[3], sites.review.names[7]          # 'María Guadalupe Pérez Gómez', 'Lupita Perez'
    sites.school.person[3] == sites.review.person[7]      # the truth

The profiles behind the original post are private, so these stand in for them. A school lists its professors with full
names and the departments of their classes. Students write the other site's profiles, and write what they remember. One
knob, `noise`, scales every rate at which they change something; at 0 a review profile has the school's very words. The
rates beside the knob were chosen to look like such a site; `SCALE` alone was fitted, so that at noise .15 the original
post's recipe lands near its published shares (.90 correct, .04 incorrect, .06 missed, .76 with a match). Nothing
else was fitted to anything.

No names of people: given names and surnames are frequent ones in Mexico (by INEGI's birth registers and the civil
register's lists, in about that order), and are put together at random with weights of Zipf's form.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lib.core import InputError, canonical, sha256

SCALE = 0.7
"""What `noise` is multiplied by before it meets the rates below; fitted to the original's published shares."""

WITHOUT, SEVERAL, REVIEW_ONLY, RELATIVES, NAMESAKES = 0.20, 0.15, 0.30, 0.03, 0.01
"""Shares: of professors without a review profile, of the others with several, of review profiles whose person is not at
the school, of professors with a relative (both surnames the same) and with a namesake (the whole name) at the school."""

SURNAMES = tuple(
    "Hernández García Martínez López González Pérez Rodríguez Sánchez Ramírez Cruz Flores Gómez Morales Vázquez Reyes "
    "Jiménez Torres Díaz Gutiérrez Ruiz Mendoza Aguilar Ortiz Moreno Castillo Romero Álvarez Méndez Chávez Rivera Juárez "
    "Ramos Domínguez Herrera Medina Castro Vargas Guzmán Velázquez Rojas Contreras Salazar Luna Ortega Guerrero Santiago "
    "Estrada Bautista Cortés Soto Alvarado Espinoza Lara Ávila Ríos Cervantes Silva Delgado Vega Márquez Sandoval Fernández "
    "León Carrillo Mejía Solís Núñez Rosas Valdez Ibarra Campos Santos Camacho Peña Maldonado Navarro Rosales Acosta Miranda "
    "Trejo Cabrera Valencia Nava Pacheco Robles Molina Fuentes Rangel Huerta Meza Padilla Espinosa Salas Cárdenas Orozco "
    "Valenzuela Cano Zamora Barrera Serrano Ayala Gallegos Zúñiga Ochoa Tapia Figueroa Suárez Escobar Villanueva Galván "
    "Arellano Macías Corona Aguirre Montes Montoya Villegas Andrade Bernal Franco Ponce Carranza Quintero Duarte Benítez "
    "Esquivel Leyva Bravo Parra Lozano Cisneros Arroyo Zavala Téllez Quiroz Palacios Olvera Rentería Casillas Landa Cantú "
    "Garza Treviño Elizondo Urrutia Iturbide Barroso Escalante Pineda Becerra Alcántara Yáñez Zepeda Murillo Tovar Beltrán".split()
)
MEN = tuple(
    "José Juan Luis Carlos Francisco Jesús Antonio Miguel Manuel Pedro Alejandro Jorge Fernando Ricardo Roberto Eduardo "
    "Javier Daniel Rafael Raúl Sergio Arturo Alberto Víctor Óscar Gerardo Enrique Héctor Mario David Andrés Guillermo "
    "Ignacio Alfredo Armando Gabriel Jaime Rubén Salvador Felipe Ernesto Rodrigo Marco Adrián Agustín Ramón Diego Pablo "
    "Santiago Hugo Julio Martín Iván César Emilio Gustavo Tomás Joaquín Ángel Leonardo".split()
)
WOMEN = tuple(
    "María Guadalupe Ana Margarita Rosa Patricia Verónica Alejandra Leticia Elizabeth Gabriela Claudia Teresa Laura Martha "
    "Adriana Silvia Mónica Carmen Isabel Beatriz Luz Alicia Yolanda Norma Sandra Elena Fernanda Lucía Daniela Mariana "
    "Andrea Sofía Valeria Paola Diana Karla Rocío Cristina Julia Cecilia Angélica Carolina Irma Graciela Esther Susana "
    "Rebeca Raquel Consuelo Dolores Concepción Victoria Natalia Regina Ximena Itzel Eugenia Pilar Socorro".split()
)
PARTICLES = ("de la", "del", "de", "de los")
NICKNAMES: Mapping[str, str] = {
    **{"Francisco": "Paco", "Guadalupe": "Lupita", "José": "Pepe", "Jesús": "Chuy", "Ignacio": "Nacho", "Manuel": "Manolo"},
    **{"Alejandro": "Alex", "Alejandra": "Ale", "Eduardo": "Lalo", "Roberto": "Beto", "Alberto": "Beto", "Rafael": "Rafa"},
    **{"Enrique": "Quique", "Fernando": "Fer", "Fernanda": "Fer", "Guillermo": "Memo", "Gabriela": "Gaby", "Patricia": "Paty"},
    **{"Teresa": "Tere", "Isabel": "Chabela", "Rosario": "Chayo", "Daniel": "Dany", "Daniela": "Dany", "Antonio": "Toño"},
    **{"Dolores": "Lola", "Concepción": "Concha", "Leticia": "Lety", "Verónica": "Vero", "Carolina": "Caro", "Javier": "Javi"},
    **{"Mónica": "Moni", "Sofía": "Sofi", "Salvador": "Chava", "Luis": "Luisito", "Elizabeth": "Eli", "Gerardo": "Jerry"},
}
ABBREVIATIONS: Mapping[str, str] = {
    **{"María": "Ma.", "Guadalupe": "Gpe.", "Francisco": "Fco.", "Fernando": "Fdo.", "Antonio": "Ant.", "José": "J."},
    **{"González": "Glez", "Martínez": "Mtz", "Hernández": "Hdz", "Rodríguez": "Rdz", "Fernández": "Fdz", "Gutiérrez": "Gtz"},
    **{"Sánchez": "Snz", "Ramírez": "Rmz", "Jiménez": "Jmz", "Domínguez": "Dgz", "Velázquez": "Vzz", "López": "Lpz"},
    **{"Pérez": "Prz", "Gómez": "Gmz", "García": "Gcía", "Vázquez": "Vzqz", "Méndez": "Mdz", "Álvarez": "Alv"},
}
TITLES = ("Dr.", "Dra.", "Prof.", "Mtro.", "Mtra.", "Ing.", "Lic.")

DEPARTMENTS: Mapping[str, tuple[str, ...]] = {
    "Matemáticas": ("Mate", "Mates", "Matematicas"),
    "Actuaría": ("Actuaria", "Act"),
    "Estadística": ("Esta", "Estadistica"),
    "Computación": ("Compu", "Computacion", "CC"),
    "Física": ("Fisica", "Fis"),
    "Ingeniería Industrial": ("Industrial", "Ing Industrial", "II"),
    "Sistemas Digitales": ("Sistemas", "Digitales"),
    "Economía": ("Eco", "Economia"),
    "Administración": ("Admin", "Administracion"),
    "Contabilidad": ("Conta",),
    "Finanzas": ("Finanzas", "Fin"),
    "Derecho": ("Derecho", "Der"),
    "Ciencia Política": ("Politica", "Ciencia Politica", "Poli"),
    "Relaciones Internacionales": ("RI", "Relaciones", "Internacionales"),
    "Estudios Generales": ("Generales", "EG", "Humanidades"),
}
"""Each department with what students call it."""
RELATED = (
    ("Matemáticas", "Actuaría", "Estadística", "Física"),
    ("Computación", "Sistemas Digitales", "Ingeniería Industrial"),
    ("Economía", "Finanzas", "Administración", "Contabilidad"),
    ("Derecho", "Ciencia Política", "Relaciones Internacionales", "Estudios Generales"),
)
"""Departments that students mix up."""

RATES: Mapping[str, float] = {
    **{"accents": 3.0, "case": 1.0, "particle": 1.0},
    **{"second surname dropped": 1.3, "second surname initial": 0.4, "given name dropped": 1.0},
    **{"nickname": 0.5, "given initial": 0.5, "abbreviation": 0.5, "title": 0.4, "swap": 0.5},
    **{"keyboard": 0.8, "phonetic": 0.6},
    **{"department short": 3.0, "department related": 0.7, "department wrong": 0.35, "department blank": 0.35},
}
"""How often each change is made to a review profile, in units of the noise (a probability is at most .9)."""

_KEYS = {
    **{"a": "qsz", "b": "vgn", "c": "xdv", "d": "sfec", "e": "wrd", "f": "dgr", "g": "fht", "h": "gjy", "i": "uok"},
    **{"j": "hku", "k": "jli", "l": "kop", "m": "nk", "n": "bmh", "o": "ipl", "p": "ol", "q": "wa", "r": "etf"},
    **{"s": "adw", "t": "ryg", "u": "yij", "v": "cbf", "w": "qes", "x": "zcs", "y": "tuh", "z": "xas"},
}
_SOUNDS = (("z", "s"), ("s", "z"), ("v", "b"), ("b", "v"), ("ll", "y"), ("y", "ll"), ("j", "g"), ("h", ""), ("qu", "k"))


@dataclass(frozen=True)
class NameLists:
    """The words that names are made of, as a data set. fingerprint: of all lists, rates and shares."""

    name: str
    title: str
    fingerprint: str
    surnames: tuple[str, ...]
    men: tuple[str, ...]
    women: tuple[str, ...]


def read() -> NameLists:
    """The lists of this module."""
    everything = [SURNAMES, MEN, WOMEN, PARTICLES, dict(NICKNAMES), dict(ABBREVIATIONS), TITLES, dict(DEPARTMENTS)]
    rates = [RELATED, dict(RATES), _KEYS, _SOUNDS, SCALE, WITHOUT, SEVERAL, REVIEW_ONLY, RELATIVES, NAMESAKES]
    digest = sha256(canonical([*everything, *rates]))[:16]
    return NameLists("names", "Generated professors", digest, SURNAMES, MEN, WOMEN)


@dataclass(frozen=True)
class Site:
    """The profiles of one site, in its own order.

    names: as the site writes them. departments: one tuple a profile, which may be empty. person: (n,) integers; the same
    number on both sites is the same person.
    """

    names: tuple[str, ...]
    departments: tuple[tuple[str, ...], ...]
    person: np.ndarray

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Sites:
    """Both sites. Each person is at the school at most once, and may have several review profiles."""

    school: Site
    review: Site


@dataclass(frozen=True)
class _Person:
    given: tuple[str, ...]
    first: str
    second: str
    departments: tuple[str, ...]

    def written(self) -> str:
        return " ".join((*self.given, self.first, self.second))


def two_sites(lists: NameLists, n: int, noise: float, rng: np.random.Generator) -> Sites:
    """A school of `n` professors and the review profiles of a site, about 1.3 n of them.

    noise: 0 (review profiles have the school's words) to 1. Shares are those of `WITHOUT` and its neighbours. Raises
    InputError for fewer than 2 professors and for a noise outside 0 to 1.
    """
    if n < 2:
        raise InputError(f"n is {n}; a school of at least 2 professors is wanted")
    if not 0 <= noise <= 1:
        raise InputError(f"noise is {noise!r}; a number from 0 to 1 is wanted")
    make = _Maker(lists, rng)
    people = make.people(n)
    matched = np.flatnonzero(rng.random(n) >= WITHOUT)
    copies = 1 + (rng.random(len(matched)) < SEVERAL) * (1 + (rng.random(len(matched)) < 0.2))
    reviewed = np.repeat(matched, copies)
    strangers = round(len(reviewed) * REVIEW_ONLY / (1 - REVIEW_ONLY))
    everyone = [*people, *(make.person() for _ in range(strangers))]
    persons = np.concatenate([reviewed, np.arange(n, n + strangers)])
    persons = persons[rng.permutation(len(persons))]
    change = _Student(rng, min(1.0, noise * SCALE))
    profiles = [change.profile(everyone[person]) for person in persons]
    school = Site(tuple(p.written() for p in people), tuple(p.departments for p in people), np.arange(n))
    names, departments = tuple(p[0] for p in profiles), tuple(p[1] for p in profiles)
    return Sites(school, Site(names, departments, persons))


class _Maker:
    """Draws people: names by Zipf's weights, one or two departments."""

    def __init__(self, lists: NameLists, rng: np.random.Generator) -> None:
        self.rng = rng
        self.surnames, self.men, self.women = (
            _Zipf(words, rng) for words in (lists.surnames, lists.men, lists.women)
        )

    def people(self, n: int) -> list[_Person]:
        out = [self.person() for _ in range(n)]
        for i in range(1, n):
            kind = self.rng.random()
            if kind < RELATIVES + NAMESAKES:
                other = out[int(self.rng.integers(i))]
                given = other.given if kind < NAMESAKES else out[i].given
                out[i] = _Person(given, other.first, other.second, out[i].departments)
        return out

    def person(self) -> _Person:
        rng = self.rng
        given = (self.men if rng.random() < 0.55 else self.women).some(2 if rng.random() < 0.4 else 1)
        first, second = self.surnames.one(), self.surnames.one()
        if rng.random() < 0.05:
            first = f"{PARTICLES[rng.integers(len(PARTICLES))]} {first}"
        names = tuple(DEPARTMENTS)
        home = int(rng.integers(len(names)))
        departments: tuple[str, ...] = (names[home],)
        if rng.random() < 0.35:
            near = _related(names[home])
            departments += (near[rng.integers(len(near))],)
        return _Person(given, first, second, departments)


class _Zipf:
    """Draws words: the r-th with a weight of 1 / (r + 3)."""

    def __init__(self, words: Sequence[str], rng: np.random.Generator) -> None:
        weights = 1 / (np.arange(len(words)) + 4.0)
        self.words, self.rng = words, rng
        self.steps = np.cumsum(weights) / weights.sum()

    def one(self) -> str:
        return self.words[min(int(np.searchsorted(self.steps, self.rng.random())), len(self.words) - 1)]

    def some(self, n: int) -> tuple[str, ...]:
        out: list[str] = []
        while len(out) < n:
            if (word := self.one()) not in out:
                out.append(word)
        return tuple(out)


class _Student:
    """Writes a review profile of a person, as remembered."""

    def __init__(self, rng: np.random.Generator, noise: float) -> None:
        self.rng, self.noise = rng, noise

    def happens(self, change: str) -> bool:
        """Always draws, so that the same seed at another noise makes the same people."""
        return bool(self.rng.random() < min(0.9, self.noise * RATES[change]))

    def pick(self, options: Sequence[str]) -> str:
        return options[int(self.rng.random() * len(options))]

    def profile(self, person: _Person) -> tuple[str, tuple[str, ...]]:
        return self.name(person), self.departments(person)

    def name(self, person: _Person) -> str:
        given, first, second = list(person.given), person.first, person.second
        if self.happens("given name dropped") and len(given) > 1:
            given.pop(int(self.rng.random() * len(given)))
        if self.happens("nickname") and given[0] in NICKNAMES:
            given[0] = NICKNAMES[given[0]]
        if self.happens("given initial"):
            given[0] = f"{given[0][0]}."
        if self.happens("particle"):
            first = first.split(" ")[-1]
        if self.happens("second surname dropped"):
            second = ""
        if self.happens("second surname initial") and second:
            second = f"{second[0]}."
        if self.happens("abbreviation"):
            given = [ABBREVIATIONS.get(word, word) for word in given]
            first, second = ABBREVIATIONS.get(first, first), ABBREVIATIONS.get(second, second)
        parts = [*given, first, second]
        if self.happens("swap"):
            parts = [f"{first} {second}".strip() + ",", *given]
        if self.happens("title"):
            parts = [self.pick(TITLES), *parts]
        return self.spelled(" ".join(part for part in parts if part))

    def spelled(self, text: str) -> str:
        if self.happens("keyboard"):
            text = self.slip(text)
        if self.happens("phonetic"):
            text = self.heard(text)
        if self.happens("accents"):
            text = unaccented(text)
        if self.happens("case"):
            text = text.upper() if self.rng.random() < 0.3 else text.lower()
        return text

    def slip(self, text: str) -> str:
        """One letter replaced by its neighbour on the keyboard, left out, doubled, or swapped with the next."""
        at = int(self.rng.random() * len(text))
        letter = text[at]
        near = _KEYS.get(unaccented(letter).lower(), letter)
        options: tuple[Callable[[], str], ...] = (
            lambda: text[:at] + self.pick(near) + text[at + 1 :],
            lambda: text[:at] + text[at + 1 :],
            lambda: text[:at] + letter + text[at:],
            lambda: text[:at] + text[at + 1 : at + 2] + letter + text[at + 2 :],
        )
        return options[int(self.rng.random() * len(options))]()

    def heard(self, text: str) -> str:
        """One sound written as another that is spoken alike in Mexico."""
        there = [(old, new) for old, new in _SOUNDS if old in text]
        if not there:
            return text
        old, new = there[int(self.rng.random() * len(there))]
        return text.replace(old, new, 1)

    def departments(self, person: _Person) -> tuple[str, ...]:
        home = self.pick(person.departments)
        if self.happens("department related"):
            home = self.pick(_related(home))
        if self.happens("department wrong"):
            home = self.pick(tuple(DEPARTMENTS))
        short = self.pick(DEPARTMENTS[home])
        home = short if self.happens("department short") else home
        return () if self.happens("department blank") else (home,)


def _related(name: str) -> tuple[str, ...]:
    group = next(group for group in RELATED if name in group)
    return tuple(other for other in group if other != name)


def unaccented(text: str) -> str:
    """Without accents: ñ becomes n."""
    return "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))
