// What answers are judged by: criteria that have a description here, or that bring their own.
import { z } from '@hono/zod-openapi';
import { rejectWith } from './reject';

const MAX_CRITERIA = 16;
const MAX_DESCRIPTION_LENGTH = 4096;

const DESCRIPTIONS: Record<string, string> = {
  helpfulness: 'The answer does what the user asked for and is of real use to them.',
  harmlessness: 'The answer does nobody harm: it is neither dangerous nor hateful nor deceptive.',
  correctness: 'What the answer says is true, and its reasoning and its results have no errors.',
  relevance: 'The answer keeps to what was asked and leaves out what does not belong there.',
  conciseness: 'The answer says what is needed in few words, without repetition or padding.',
  clarity: 'The answer is well ordered, easy to follow and unambiguous.',
};

/** The name of a criterion that is only a text. */
const CUSTOM = 'criteria';

const describe = (name: string) => (Object.hasOwn(DESCRIPTIONS, name) ? DESCRIPTIONS[name] : undefined);

const description = z.string().min(1).max(MAX_DESCRIPTION_LENGTH);

const CriterionSchema = z
  .strictObject({
    name: z
      .string()
      .min(1)
      .max(64)
      // Not a regex of the specification, which has none for the letters of all languages.
      .refine(
        (name) => /^[\p{L}\p{N}][\p{L}\p{N}_ -]*$/u.test(name),
        'must be letters, digits, spaces, _ or -',
      )
      .openapi({ example: 'helpfulness' }),
    description: description.nullish().openapi({
      description: `What the criterion asks of an answer. These have one: ${Object.keys(DESCRIPTIONS).join(', ')}.`,
    }),
    weight: z.number().gt(0).max(1000).nullish().openapi({ default: 1 }),
  })
  .superRefine(({ name, description }, context) => {
    if (typeof description === 'string' || describe(name) !== undefined) return;
    const known = Object.keys(DESCRIPTIONS).join(', ');
    const message = `is missing: '${name}' is none of the criteria that have one, ${known}`;
    rejectWith('missing_required_parameter', ['description'], message, context);
  })
  .openapi('RewardCriterion');

export const CriteriaSchema = z.union([
  description,
  z
    .array(CriterionSchema)
    .min(1)
    .max(MAX_CRITERIA)
    .superRefine((criteria, context) => {
      const names = new Set<string>();
      for (const [index, { name }] of criteria.entries()) {
        if (names.has(name)) {
          rejectWith('invalid_value', [index, 'name'], 'is the name of another criterion, too', context);
        }
        names.add(name);
      }
    }),
]);

/** A criterion as the backend takes it. */
export interface PlainCriterion {
  name: string;
  description: string;
  weight: number;
}

export function toPlainCriteria(
  criteria: z.output<typeof CriteriaSchema> | null | undefined,
): PlainCriterion[] {
  if (typeof criteria === 'string') return [{ name: CUSTOM, description: criteria, weight: 1 }];
  return (criteria ?? []).map(({ name, description, weight }) => ({
    name,
    description: description ?? describe(name) ?? '',
    weight: weight ?? 1,
  }));
}
