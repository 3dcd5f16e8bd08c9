"""Which phenomenon of grammar each item of a task of minimal pairs is about, and which items belong together.

Of castalia_agreement the items say so themselves; of lm-eval's BLiMP each task is one paradigm of a phenomenon, as the
field `linguistics_term` of its items says (Warstadt et al. 2020, github.com/alexwarstadt/blimp, CC-BY 4.0).
"""

from __future__ import annotations

import pandas as pd

from scripts.analyze import sources
from scripts.common.errors import UserError
from scripts.evaluate.names import AGREEMENT
from scripts.study import paths

BLIMP = {  # phenomenon: its tasks, without the prefix blimp_
    "anaphor_agreement": "anaphor_gender_agreement anaphor_number_agreement",
    "argument_structure": "causative drop_argument inchoative intransitive passive_1 passive_2 transitive",
    "binding": """principle_A_c_command principle_A_case_1 principle_A_case_2 principle_A_domain_1 principle_A_domain_2
        principle_A_domain_3 principle_A_reconstruction""",
    "control_raising": """existential_there_object_raising existential_there_subject_raising expletive_it_object_raising
        tough_vs_raising_1 tough_vs_raising_2""",
    "determiner_noun_agreement": """determiner_noun_agreement_1 determiner_noun_agreement_2
        determiner_noun_agreement_irregular_1 determiner_noun_agreement_irregular_2
        determiner_noun_agreement_with_adj_2 determiner_noun_agreement_with_adj_irregular_1
        determiner_noun_agreement_with_adj_irregular_2 determiner_noun_agreement_with_adjective_1""",
    "ellipsis": "ellipsis_n_bar_1 ellipsis_n_bar_2",
    "filler_gap_dependency": """wh_questions_object_gap wh_questions_subject_gap wh_questions_subject_gap_long_distance
        wh_vs_that_no_gap wh_vs_that_no_gap_long_distance wh_vs_that_with_gap wh_vs_that_with_gap_long_distance""",
    "irregular_forms": "irregular_past_participle_adjectives irregular_past_participle_verbs",
    "island_effects": """adjunct_island complex_NP_island coordinate_structure_constraint_complex_left_branch
        coordinate_structure_constraint_object_extraction left_branch_island_echo_question
        left_branch_island_simple_question sentential_subject_island wh_island""",
    "npi_licensing": """matrix_question_npi_licensor_present npi_present_1 npi_present_2 only_npi_licensor_present
        only_npi_scope sentential_negation_npi_licensor_present sentential_negation_npi_scope""",
    "quantifiers": """existential_there_quantifiers_1 existential_there_quantifiers_2 superlative_quantifiers_1
        superlative_quantifiers_2""",
    "s-selection": "animate_subject_passive animate_subject_trans",
    "subject_verb_agreement": """distractor_agreement_relational_noun distractor_agreement_relative_clause
        irregular_plural_subject_verb_agreement_1 irregular_plural_subject_verb_agreement_2
        regular_plural_subject_verb_agreement_1 regular_plural_subject_verb_agreement_2""",
}
OF_PARADIGM = {name: phenomenon for phenomenon, names in BLIMP.items() for name in names.split()}
PREFIX = "blimp_"
CHANCE = 0.5  # of two sentences one is right


def family(task: str) -> str | None:
    """What a task's phenomena are told under: the task itself, "blimp" for all of BLiMP's, None for other tasks."""
    if task == AGREEMENT:
        return task
    return "blimp" if task.startswith(PREFIX) and task.removeprefix(PREFIX) in OF_PARADIGM else None


def of_items(task: str, items: pd.Index) -> pd.DataFrame:
    """Of a task's items, [items]: `phenomenon`, and `unit`, what is independent of the others.

    An item of castalia_agreement counts with the mirrored one, in which the forms change their places: a taste for one
    form raises one of them and lowers the other as much.
    """
    if task != AGREEMENT:
        return pd.DataFrame({"phenomenon": OF_PARADIGM[task.removeprefix(PREFIX)], "unit": items.astype(str)}, items)
    path = paths.TASKS / f"{task}.jsonl"
    sources.require([path], "it says which phenomenon each item is about; python -m scripts.evaluate tasks makes it")
    records = sources.json_lines(path)
    if max(items) >= len(records):
        raise UserError(f"{path}: {len(records)} items, the samples hold number {max(items)}")
    chosen = [(records[item]["phenomenon"], records[item]["two"]) for item in items]
    return pd.DataFrame(chosen, items, columns=["phenomenon", "unit"])
