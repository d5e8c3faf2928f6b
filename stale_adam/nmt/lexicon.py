"""The words of the `tiny` corpus: English, German, and which go together.

Everything is a plain table. An entry ends at ';', its columns at '|'; '_' is
a space inside an entry, '-' an empty cell, and '+' marks the part of a verb
that can be separated ('turn+on', 'an+machen'). To extend the language add an
entry; classes of nouns (child, food, room, ...) keep the sentences sensible:
people eat food, and animals do not read.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

CASES = ('nominative', 'accusative', 'dative')
# In tables of forms rows are cases and columns are genders, plural the fourth.
GENDERS = ('der', 'die', 'das', 'plural')
# Finite verbs have three forms: ich; er, sie, es; wir, sie, Sie.
PERSONS = ('first', 'third', 'plural')


class Pair(NamedTuple):
  """The same thing in two languages."""

  english: str
  german: str


class Noun(NamedTuple):
  """A noun. `weak`: der Junge, den Jungen. Without a plural it has '' there."""

  kind: str
  english: str
  english_plural: str
  gender: str
  german: str
  german_plural: str
  weak: bool


class Pronoun(NamedTuple):
  """A pronoun: personal, 'who', or relative; German in the three cases."""

  english: str
  english_object: str
  possessive: str
  german: tuple[str, str, str]
  person: str


class Verb(NamedTuple):
  """A verb, what it governs, and what can sensibly be said with it.

  `case` is that of the object, '' without one; `recipient` says that a dative
  object comes on top; `goals` are complements, such as ('to', station).
  """

  english: tuple[str, str, str]  # buy, bought, buying
  particle: str
  finite: tuple[str, str, str]
  infinitive: str
  participle: str
  prefix: str
  auxiliary: str
  preposition: str
  case: str
  recipient: bool
  subjects: tuple[Noun, ...]
  objects: tuple[Noun, ...]
  goals: tuple[tuple[str, Noun], ...]
  places: tuple[Noun, ...]
  manners: tuple[str, ...]
  aspect: str


def _rows(text: str) -> Iterator[list[list[str]]]:
  """Yields the entries of a table as lists of columns of words."""
  for entry in text.strip(' \n;').split(';'):
    yield [
      ['' if word == '-' else word.replace('_', ' ') for word in column.split()]
      for column in entry.split('|')
    ]


def _pairs(text: str) -> dict[str, str]:
  return {row[0][0]: row[0][1] for row in _rows(text)}


def _forms(text: str) -> tuple[tuple[str, ...], ...]:
  return tuple(tuple(column) for row in _rows(text) for column in row)


# Articles and the like, by the class that decides on all endings.
_DETERMINERS = {
  'definite': 'the d',
  'demonstrative': 'this dies; every jed',
  'indefinite': """
    a ein; no kein; my mein; his sein; her ihr; our unser; your Ihr; their ihr
  """,
  'none': '- -; two zwei; three drei',
}
DETERMINERS = {
  english: (german, kind)
  for kind, text in _DETERMINERS.items()
  for english, german in _pairs(text).items()
}
POSSESSIVES = ('my', 'his', 'her', 'our', 'your', 'their')
# These make a noun phrase indefinite; the others make it definite.
INDEFINITE = ('a', 'no', '', 'two', 'three')
DETERMINER_ENDINGS = {
  'definite': _forms('er ie as ie | en ie as ie | em er em en'),
  'demonstrative': _forms('er e es e | en e es e | em er em en'),
  'indefinite': _forms('- e - e | en e - e | em er em en'),
  'none': _forms('- - - - | - - - - | - - - -'),
}
ADJECTIVE_ENDINGS = {
  'definite': _forms('e e e en | en e e en | en en en en'),
  'demonstrative': _forms('e e e en | en e e en | en en en en'),
  'indefinite': _forms('er e es en | en e es en | en en en en'),
  'none': _forms('er e es e | en e es e | em er em en'),
}
RELATIVES = _forms('der die das die | den die das die | dem der dem denen')


def _pronouns(text: str) -> dict[str, Pronoun]:
  return {
    key[0]: Pronoun(*english, tuple(german), person[0])
    for key, english, german, person in _rows(text)
  }


PRONOUNS = _pronouns("""
  I | I me my | ich mich mir | first; he | he him his | er ihn ihm | third;
  she | she her her | sie sie ihr | third;
  we | we us our | wir uns uns | plural;
  you | you you your | Sie Sie Ihnen | plural;
  they | they them their | sie sie ihnen | plural
""")
WHO = _pronouns('who | who - - | wer wen wem | third')['who']
# 'it' and 'they' take the gender of the thing that they stand for.
THINGS = _pronouns("""
  der | it it its | er ihn ihm | third; die | it it its | sie sie ihr | third;
  das | it it its | es es ihm | third;
  plural | they them their | sie sie ihnen | plural
""")

PREPOSITIONS = {
  row[0][0]: (row[0][1], row[0][2])
  for row in _rows("""
    in in dative; behind hinter dative; in_front_of vor dative;
    next_to neben dative; at an dative; out_of aus dative; to zu dative;
    into in accusative; with mit dative; without ohne accusative;
    for für accusative
  """)
}
# A preposition and the article become one word.
CONTRACTIONS = _pairs("""
  in_dem im; in_das ins; an_dem am; von_dem vom; zu_dem zum; zu_der zur
""")
CONJUNCTIONS = _pairs("""
  because weil; although obwohl; when wenn; that dass; whether ob
""")
WH_WORDS = _pairs('why warum; when wann; where wo; what was')
TIMES = {  # by tense
  tense: tuple(Pair(*row[0]) for row in _rows(text))
  for tense, text in {
    'progressive': 'now jetzt; today heute; at_the_moment im_Moment',
    'present': """
      every_day jeden_Tag; on_Sundays sonntags; on_Mondays montags;
      often oft; always immer; sometimes manchmal; rarely selten
    """,
    'past': """
      yesterday gestern; last_week letzte_Woche; on_Monday am_Montag;
      this_morning heute_Morgen; two_days_ago vor_zwei_Tagen
    """,
    'will': 'tomorrow morgen; next_week nächste_Woche; soon bald',
    'modal': 'today heute; tomorrow morgen; now jetzt',
  }.items()
}
# In English these stand before the verb and not at an end of the sentence.
FREQUENCIES = ('often', 'always', 'sometimes', 'rarely')
MANNERS = _pairs("""
  well gut; late spät; loudly laut; quietly leise; quickly schnell;
  slowly langsam
""")
MODALS = {
  row[0][0]: tuple(row[1])
  for row in _rows("""
    can | kann kann können; must | muss muss müssen;
    should | sollte sollte sollten; want_to | will will wollen;
    would_like_to | möchte möchte möchten; be_allowed_to | darf darf dürfen;
    will | werde wird werden
  """)
}
AUXILIARIES = {
  'haben': ('habe', 'hat', 'haben'),
  'sein': ('bin', 'ist', 'sind'),
}
ASPECTS = {  # the tenses that suit a verb
  'event': ('progressive', 'present', 'past', 'modal'),
  # Nobody eats the same apple every day: the habit needs an indefinite object.
  'once': ('progressive', 'present', 'past', 'modal'),
  'rare': ('progressive', 'past', 'modal'),
  'point': ('past',),
  # Nobody wants to dream of a cow, or has to.
  'plain': ('progressive', 'present', 'past'),
  'sense': ('present', 'past', 'can'),
  'state': ('present',),
}

# A class and its nouns: English (irregular plural after '/'), German, plural.
_NOUNS = """
child: child/children das Kind Kinder; girl das Mädchen Mädchen;
  boy der Junge Jungen weak
adult: woman/women die Frau Frauen; man/men der Mann Männer;
  teacher der Lehrer Lehrer; student der Student Studenten weak;
  doctor der Arzt Ärzte; nurse die Krankenschwester Krankenschwestern;
  neighbor der Nachbar Nachbarn weak; farmer der Bauer Bauern weak;
  waitress/waitresses die Kellnerin Kellnerinnen; guest der Gast Gäste;
  baker der Bäcker Bäcker; lady/ladies die Dame Damen
kin: mother die Mutter -; father der Vater -; aunt die Tante Tanten;
  sister die Schwester Schwestern; brother der Bruder Brüder;
  daughter die Tochter Töchter; son der Sohn Söhne; uncle der Onkel Onkel;
  grandmother die Großmutter -; friend der Freund Freunde
animal: dog der Hund Hunde; cat die Katze Katzen; horse das Pferd Pferde;
  cow die Kuh Kühe; bird der Vogel Vögel; pig das Schwein Schweine;
  mouse/mice die Maus Mäuse; bear der Bär Bären weak
food: apple der Apfel Äpfel; pear die Birne Birnen; egg das Ei Eier;
  cake der Kuchen Kuchen; soup die Suppe Suppen; roll das Brötchen Brötchen;
  potato/potatoes die Kartoffel Kartoffeln; sausage die Wurst Würste
drink: coffee der Kaffee -; tea der Tee -; juice der Saft -; milk die Milch -;
  lemonade die Limonade -; water das Wasser -; beer das Bier -
text: book das Buch Bücher; letter der Brief Briefe; novel der Roman Romane;
  newspaper die Zeitung Zeitungen; story/stories die Geschichte Geschichten;
  poem das Gedicht Gedichte; message die Nachricht Nachrichten
portable: key der Schlüssel Schlüssel; bag die Tasche Taschen;
  umbrella der Regenschirm Regenschirme; camera die Kamera Kameras;
  picture das Bild Bilder; knife/knives das Messer Messer
device: lamp die Lampe Lampen; radio das Radio Radios; clock die Uhr Uhren;
  computer der Computer Computer
furniture: chair der Stuhl Stühle; table der Tisch Tische
vehicle: car das Auto Autos; bicycle das Fahrrad Fahrräder
clothing: shirt das Hemd Hemden; coat der Mantel Mäntel; hat der Hut Hüte;
  jacket die Jacke Jacken; cap die Mütze Mützen
opening: door die Tür Türen; window das Fenster Fenster
room: kitchen die Küche Küchen; room das Zimmer Zimmer; office das Büro Büros
building: house das Haus Häuser; hotel das Hotel Hotels;
  library/libraries die Bibliothek Bibliotheken; museum das Museum Museen;
  church/churches die Kirche Kirchen; station der Bahnhof Bahnhöfe;
  restaurant das Restaurant Restaurants; school die Schule Schulen
open: garden der Garten Gärten; park der Park Parks; forest der Wald Wälder;
  village das Dorf Dörfer; town die Stadt Städte
"""
_GROUPS = {
  'people': ('child', 'adult', 'kin'),
  'thing': ('portable', 'device', 'furniture', 'vehicle'),
}


def _nouns() -> dict[str, Noun]:
  found = {}
  for line in _NOUNS.strip().replace('\n  ', ' ').splitlines():
    kind, _, text = line.partition(': ')
    for ((english, gender, german, plural, *weak),) in _rows(text):
      english, _, irregular = english.partition('/')
      many = plural and (irregular or english + 's')
      noun = Noun(kind, english, many, gender, german, plural, bool(weak))
      found[english] = noun
  return found


NOUNS = _nouns()
PEOPLE = _GROUPS['people']

# English, its comparative; German, its comparative, its stem before endings.
_ADJECTIVES = """
  big bigger | groß größer groß; small smaller | klein kleiner klein;
  old older | alt älter alt; young younger | jung jünger jung;
  new newer | neu neuer neu; long longer | lang länger lang;
  short shorter | kurz kürzer kurz; clever cleverer | klug klüger klug;
  cheap cheaper | billig billiger billig; rich richer | reich reicher reich;
  expensive more_expensive | teuer teurer teur;
  beautiful more_beautiful | schön schöner schön;
  interesting more_interesting | interessant interessanter interessant;
  friendly friendlier | freundlich freundlicher freundlich;
  famous - | berühmt - berühmt; funny - | lustig - lustig;
  red - | rot - rot; blue - | blau - blau; green - | grün - grün;
  white - | weiß - weiß; black - | schwarz - schwarz;
  brown - | braun - braun; fresh - | frisch - frisch; cold - | kalt - kalt;
  warm - | warm - warm; delicious - | lecker - lecker;
  dark - | dunkel - dunkl; quiet - | ruhig - ruhig; dirty - | schmutzig - -;
  broken - | kaputt - -; sick - | krank - krank; hungry - | hungrig - hungrig;
  tired - | müde - müd; thirsty - | durstig - durstig;
  happy - | glücklich - glücklich; sad - | traurig - traurig;
  angry - | wütend - wütend; surprised - | überrascht - überrascht
"""
ADJECTIVES = {row[0][0]: tuple(row[1]) for row in _rows(_ADJECTIVES)}
COMPARATIVES = {
  row[0][0]: Pair(row[0][1], row[1][1])
  for row in _rows(_ADJECTIVES)
  if row[0][1]
}
ATTRIBUTES = {  # the adjectives that suit a class of nouns
  kind: tuple(word.replace('_', ' ') for word in text.split())
  for kind, text in {
    'child': 'small young clever tired sick hungry friendly happy sad',
    'adult': 'old young clever tired sick friendly rich famous',
    'kin': 'clever tired sick friendly happy',
    'animal': 'big small old young black white brown hungry',
    'food': 'big small fresh delicious expensive cheap',
    'drink': 'cold fresh delicious expensive cheap',
    'text': 'new old long short interesting funny',
    'portable': 'new old big small black red beautiful expensive cheap',
    'device': 'new old big small black white beautiful expensive cheap',
    'furniture': 'new old big small brown white beautiful expensive cheap',
    'vehicle': 'new old big small red blue green beautiful expensive cheap',
    'clothing': 'new old red blue green black warm beautiful expensive cheap',
    'opening': 'big small old new white green',
    'room': 'big small dark quiet warm',
    'building': 'big small old new beautiful',
    'open': 'big small beautiful quiet',
  }.items()
}
# Nobody writes an old book or builds an expensive table.
MAKING = ('write', 'paint', 'build', 'cook')
UNMADE = ('old', 'new', 'cheap', 'expensive', 'tired', 'sick')
# What people do in every weather, and what they do because of it.
WEATHERPROOF = ('work', 'play', 'sing', 'dance', 'go', 'drive', 'run', 'sit')
WEATHERPROOF += ('wait for', 'meet', 'visit', 'look for', 'paint', 'wash')
SHELTERED = ('sleep', 'play', 'sing', 'stay', 'eat', 'drink', 'cook', 'read')
SHELTERED += ('write', 'paint', 'visit', 'call', 'close')
# What others are sad or angry about.
SAD_VERBS = ('lose', 'cry', 'throw', 'sell')
COMPARISONS = {  # the adjectives that compare within a class
  'child': ('small', 'young', 'clever', 'friendly'),
  'adult': ('old', 'young', 'rich', 'clever', 'friendly'),
  'animal': ('old', 'young', 'beautiful'),
  'food': ('expensive', 'cheap', 'big', 'small'),
  'text': ('long', 'short', 'new', 'old', 'interesting'),
  'vehicle': ('expensive', 'cheap', 'new', 'old', 'beautiful'),
  'clothing': ('expensive', 'cheap', 'new', 'old', 'beautiful'),
  'building': ('big', 'small', 'old', 'new', 'beautiful'),
}
# "She washes the coat because it is dirty": reasons that lie in the object.
OBJECT_REASONS = {
  'wash': ('dirty',),
  'repair': ('broken', 'old'),
  'throw away': ('broken', 'old'),
  'sell': ('old',),
  'buy': ('cheap',),
  'read': ('interesting', 'funny'),
}
# "The boy is eating because he is hungry": reasons that lie in the subject.
SUBJECT_REASONS = {
  'eat': ('hungry',),
  'drink': ('thirsty',),
  'sleep': ('tired', 'sick'),
  'cry': ('sad', 'tired'),
  'sing': ('happy',),
  'dance': ('happy',),
  'stay': ('sick', 'tired'),
}

# By frame: English | German | subjects | objects or goals | places | manners
# | aspect. Unless regular, the German forms of ich and wir come fourth, fifth.
_VERBS = {
  '': """
    sleep slept sleeping | schlafen schläft geschlafen | people animal |
      | garden house hotel room | well | event;
    play played playing | spielen spielt gespielt | child kin student dog cat |
      | garden park room house school | with quietly | event;
    work worked working | arbeiten arbeitet gearbeitet | adult kin |
      | room building garden | with slowly quickly | event;
    sing sang singing | singen singt gesungen | people |
      | garden kitchen church school park | with loudly quietly well | event;
    dance danced dancing | tanzen tanzt getanzt | people |
      | garden kitchen hotel park restaurant | with slowly well | event;
    cry cried crying | weinen weint geweint | people |
      | garden kitchen school room | loudly quietly | plain;
    get_up got_up getting_up | auf+stehen steht ist_aufgestanden | people |
      | | late slowly quickly | rare;
    fall_asleep fell_asleep - | ein+schlafen schläft ist_eingeschlafen
      | people dog cat | | garden room park kitchen | late quickly | point
  """,
  'goal': """
    go went going | gehen geht ist_gegangen | people
      | into garden kitchen park forest house office room
        to school church library museum hotel station restaurant |
      | with without slowly quickly | event;
    drive drove driving | fahren fährt ist_gefahren | adult kin
      | into town village forest to station hotel museum restaurant |
      | with without slowly | event;
    run ran running | laufen läuft ist_gelaufen | people dog cat horse
      | into garden forest house park to station school | | quickly | event;
    come came coming | kommen kommt ist_gekommen | people
      | out_of room building forest | | with without slowly | rare;
    arrive arrived arriving | an+kommen kommt ist_angekommen | people
      | at station school church hotel museum library | | with late | plain;
    sit sat sitting | sitzen sitzt gesessen | people dog cat
      | in garden kitchen park church library | | with quietly | event;
    stay stayed staying | bleiben bleibt ist_geblieben | people
      | in room hotel house village town | | with | event;
    live lived - | wohnen wohnt gewohnt | people
      | in village town hotel house | | with | state
  """,
  'accusative': """
    eat ate eating | essen isst gegessen | people | food
      | kitchen garden restaurant park | with slowly quickly | once;
    drink drank drinking | trinken trinkt getrunken | adult kin | drink
      | kitchen garden restaurant hotel | with slowly quickly | once;
    cook cooked cooking | kochen kocht gekocht | adult kin
      | soup egg potato | kitchen restaurant | for | once;
    read read reading | lesen liest gelesen | people | text
      | garden park kitchen library school | with quietly slowly | once;
    write wrote writing | schreiben schreibt geschrieben | adult kin
      | letter story poem message book | room library garden | for | once;
    buy bought buying | kaufen kauft gekauft | adult kin
      | food book novel clothing thing | village town | for | rare;
    sell sold selling | verkaufen verkauft verkauft | adult kin
      | book newspaper clothing thing horse cow | village town | | rare;
    look_for looked_for looking_for | suchen sucht gesucht | people
      | portable clothing dog cat | room building open | with | rare;
    find found - | finden findet gefunden | people
      | portable clothing dog cat | room building open | quickly | point;
    lose lost - | verlieren verliert verloren | people
      | key bag umbrella camera hat cap | building open | | point;
    wash washed washing | waschen wäscht gewaschen | adult kin
      | clothing dog car | | quickly slowly | event;
    tidy+up tidied tidying | auf+räumen räumt aufgeräumt | people
      | room | | quickly slowly | event;
    open opened opening | auf+machen macht aufgemacht | people
      | opening bag letter | | quickly slowly quietly | event;
    close closed closing | zu+machen macht zugemacht | people
      | opening bag book | | quickly slowly quietly | event;
    put+on put putting | an+ziehen zieht angezogen | people
      | clothing | | quickly slowly | event;
    wear wore wearing | tragen trägt getragen | people
      | clothing | | | event;
    repair repaired repairing | reparieren repariert repariert | adult kin
      | vehicle device camera chair | | for | rare;
    paint painted painting | malen malt gemalt | people
      | picture animal | garden park kitchen school | with | once;
    build built building | bauen baut gebaut | adult kin
      | house furniture | | for | rare;
    throw+away threw throwing | weg+werfen wirft weggeworfen | adult kin
      | clothing device furniture letter newspaper | | | rare;
    visit visited visiting | besuchen besucht besucht | people
      | people museum | | with | event;
    meet met meeting | treffen trifft getroffen | people
      | people | building garden park town | | event;
    call called calling | an+rufen ruft angerufen | people | people | | | event;
    invite invited inviting | ein+laden lädt eingeladen | people
      | people | | | event;
    pick+up picked picking | ab+holen holt abgeholt | adult kin
      | people | | | event;
    see saw - | sehen sieht gesehen | people
      | people dog cat horse bird | open | | sense;
    hear heard - | hören hört gehört | people
      | people dog cat horse bird | garden park forest | | sense;
    watch watched watching | beobachten beobachtet beobachtet | people cat
      | bird horse dog mouse child | garden park forest | quietly | event;
    feed fed feeding | füttern füttert gefüttert | people
      | dog cat horse cow bird pig | garden | with | event;
    love loved - | lieben liebt geliebt | people
      | people dog cat horse | | | state;
    know knew - | kennen kennt gekannt | people
      | people story novel village museum hotel | | | state;
    need needed - | brauchen braucht gebraucht | people
      | thing clothing | | | state;
    have had - | haben hat gehabt | adult kin
      | dog cat horse thing | | | state
  """,
  'dative': """
    help helped helping | helfen hilft geholfen | people | people
      | kitchen garden office school | | event;
    thank thanked thanking | danken dankt gedankt | people | people | | | rare;
    follow followed following | folgen folgt ist_gefolgt | people dog cat
      | people dog | | quietly slowly | rare;
    trust trusted - | vertrauen vertraut vertraut | people | people | | | state;
    listen_to listened_to listening_to | zu+hören hört zugehört | people
      | people | | | event
  """,
  'auf accusative': """
    wait_for waited_for waiting_for | warten wartet gewartet | people dog
      | people | building garden park | | event
  """,
  'über accusative': """
    talk_about talked_about talking_about | sprechen spricht gesprochen
      | people | people text museum picture | building garden | | event
  """,
  'mit dative': """
    talk_with talked_with talking_with | sprechen spricht gesprochen
      | people | people | building garden park | | event
  """,
  'von dative': """
    dream_of dreamed_of dreaming_of | träumen träumt geträumt
      | people | animal house vehicle | | | plain
  """,
  'dative accusative': """
    give gave giving | geben gibt gegeben | people
      | food portable book newspaper clothing | | | rare;
    show showed showing | zeigen zeigt gezeigt | people
      | text thing dog cat horse garden kitchen house | | | rare;
    send sent sending | schicken schickt geschickt | people
      | letter book message picture newspaper | | | rare;
    bring brought bringing | bringen bringt gebracht | people
      | food drink portable newspaper | | | rare;
    tell told telling | erzählen erzählt erzählt | people
      | story | | | rare
  """,
  'weather': """
    rain rained raining | regnen regnet geregnet | | | | | event;
    snow snowed snowing | schneien schneit geschneit | | | | | event
  """,
  # The object is a clause; its conjunction is the last English word.
  'clause': """
    believe_that - - | glauben glaubt geglaubt | people | | | | state;
    say_that - - | sagen sagt gesagt | people | | | | state;
    know_that - - | wissen weiß gewusst weiß wissen | people | | | | state;
    know_whether - - | wissen weiß gewusst weiß wissen | people | | | | state;
    ask_whether - - | fragen fragt gefragt | people | | | | state
  """,
  'copula': 'be was - | sein ist ist_gewesen bin sind | | | | | state',
}


def nouns(names: Iterable[str]) -> tuple[Noun, ...]:
  """Returns the nouns of the groups, classes and single nouns named."""
  found = []
  for name in names:
    kinds = _GROUPS.get(name, (name,))
    members = tuple(noun for noun in NOUNS.values() if noun.kind in kinds)
    found.extend(members or (NOUNS[name],))
  return tuple(found)


def _goals(words: list[str]) -> tuple[tuple[str, Noun], ...]:
  """Reads 'into garden house to station' as (preposition, noun) pairs."""
  found, preposition = [], ''
  for word in words:
    if word in PREPOSITIONS:
      preposition = word
    else:
      found.extend((preposition, noun) for noun in nouns([word]))
  return tuple(found)


def _verb(frame: str, row: list[list[str]]) -> Verb:
  """Reads one entry; `frame` ends in the case of the object, if there is one.

  Before that may stand a preposition, or the case of a second object.
  """
  english, german, subjects, objects, places, manners, (aspect,) = row
  head, _, particle = english[0].partition('+')
  prefix, _, stem = german[0].rpartition('+')
  auxiliary, _, participle = german[2].rpartition(' ')
  first = stem[:-1] + ('e' if stem.endswith('ern') else '')
  first, plural = german[3:] or (first, stem)
  before, _, case = frame.rpartition(' ')
  return Verb(
    english=(head, *english[1:]),
    particle=particle,
    finite=(first, german[1], plural),
    infinitive=stem,
    participle=participle,
    prefix=prefix,
    auxiliary='sein' if auxiliary else 'haben',
    preposition='' if before in CASES else before,
    case=case if case in CASES else '',
    recipient=before in CASES,
    subjects=nouns(subjects),
    objects=() if frame == 'goal' else nouns(objects),
    goals=_goals(objects) if frame == 'goal' else (),
    places=nouns(places),
    manners=tuple(manners),
    aspect=aspect,
  )


VERBS = {
  row[0][0].replace('+', ' '): _verb(frame, row)
  for frame, text in _VERBS.items()
  for row in _rows(text)
}
