"""Verbs: their forms, what they govern, what can sensibly be said with them.

In the table '+' marks the part that can be separated ('turn+on', 'an+machen').
"""

from typing import NamedTuple

from stale_adam.nmt.grammar.nouns import Noun, nouns
from stale_adam.nmt.grammar.tables import CASES, by_person, rows
from stale_adam.nmt.grammar.words import PREPOSITIONS


class Verb(NamedTuple):
  """A verb; an empty string stands for what it does not have.

  `case` is that of the object; `recipient` says that a dative object comes on
  top; `goals` are complements, such as ('to', station).
  """

  base: str  # buy
  past: str  # bought
  progressive: str  # buying
  particle: str  # away, of 'throw away'
  finite: dict[str, str]  # kaufe, kauft, kaufen, by person
  infinitive: str
  participle: str
  prefix: str  # weg, of 'wegwerfen'
  auxiliary: str  # haben or sein
  preposition: str  # auf, of 'warten auf'
  case: str
  recipient: bool
  subjects: tuple[Noun, ...]
  objects: tuple[Noun, ...]
  goals: tuple[tuple[str, Noun], ...]
  places: tuple[Noun, ...]
  manners: tuple[str, ...]
  aspect: str  # a key of `sense.TENSES`


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
      | soup egg potato | kitchen garden | for | once;
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
      | food coffee tea milk water portable | | | rare;
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
  (base, past, progressive), german, *columns, (aspect,) = row
  subjects, objects, places, manners = columns
  base, _, particle = base.partition('+')
  prefix, _, infinitive = german[0].rpartition('+')
  auxiliary, _, participle = german[2].rpartition(' ')
  first = infinitive[:-1] + ('e' if infinitive.endswith('ern') else '')
  first, plural = german[3:] or (first, infinitive)
  before, _, case = frame.rpartition(' ')
  return Verb(
    base=base,
    past=past,
    progressive=progressive,
    particle=particle,
    finite=by_person((first, german[1], plural)),
    infinitive=infinitive,
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
  for row in rows(text)
}
# These have a clause as their object.
REPORTING = tuple(
  verb for verb in VERBS.values() if verb.base.endswith((' that', ' whether'))
)
ORDINARY = tuple(
  verb for verb in VERBS.values() if verb.subjects and verb not in REPORTING
)
