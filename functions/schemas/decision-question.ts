// The three kinds of questions of OpenAI's Decisions, the options that each has, and how their probabilities are read.
import { z } from '@hono/zod-openapi';
import { DecisionTextSchema, toText } from './decision-input';
import { rejectWith } from './reject';

const probability = z.number().min(0).max(1);
const MAX_TEXT_LENGTH = 16_384;
const shared = {
  instructions: DecisionTextSchema.refine(
    (content) => toText(content) !== '' && toText(content).length <= MAX_TEXT_LENGTH,
    `must have 1 to ${MAX_TEXT_LENGTH} characters`,
  ),
  name: z.string().max(256).nullish(),
};
const optionText = z.string().min(1).max(1024);
const description = z.string().max(2048).nullish();

const PredicateSchema = z
  .strictObject({ type: z.literal('predicate'), ...shared })
  .openapi('PredicateQuestion', {
    description: 'How likely is it that a statement about the input is true?',
  });

const ChoiceSchema = z
  .strictObject({
    type: z.literal('choice'),
    ...shared,
    choices: z
      .array(z.strictObject({ value: z.union([optionText, z.boolean()]), description }))
      .min(2)
      .max(255)
      .superRefine((choices, context) => {
        const seen = new Set<string | boolean>();
        for (const [index, { value }] of choices.entries()) {
          if (seen.has(value)) {
            rejectWith('invalid_value', [index, 'value'], 'is the value of another choice, too', context);
          }
          seen.add(value);
        }
      }),
  })
  .openapi('ChoiceQuestion', { description: 'Which of the choices fits the input?' });

const ScoreSchema = z
  .strictObject({
    type: z.literal('score'),
    ...shared,
    levels: z
      .array(z.strictObject({ label: optionText, description }))
      .min(2)
      .max(10),
  })
  .openapi('ScoreQuestion', { description: 'On which of the levels, lowest first, is the input?' });

export const QuestionSchema = z
  .discriminatedUnion('type', [PredicateSchema, ChoiceSchema, ScoreSchema])
  .openapi('DecisionQuestion');

type Question = z.output<typeof QuestionSchema>;

const name = z.string().nullable();

export const DecisionAnswerSchema = z
  .discriminatedUnion('type', [
    z.object({ type: z.literal('predicate'), name, probability }).openapi('PredicateAnswer'),
    z
      .object({
        type: z.literal('choice'),
        name,
        choice: z.union([z.string(), z.boolean()]),
        confidence: probability,
        probabilities: z.array(z.object({ value: z.union([z.string(), z.boolean()]), probability })),
      })
      .openapi('ChoiceAnswer'),
    z
      .object({
        type: z.literal('score'),
        name,
        score: z.number().min(0).openapi({
          description: 'The mean level, counted from 0, weighted with the probabilities.',
        }),
        confidence: probability,
        probabilities: z.array(z.object({ value: z.int().min(0), label: z.string(), probability })),
      })
      .openapi('ScoreAnswer'),
  ])
  .openapi('DecisionAnswer');

type Answer = z.output<typeof DecisionAnswerSchema>;

const label = (text: string, description: string | null | undefined) =>
  description ? `${text}: ${description}` : text;

/** A question as the backend takes it. */
export function toPlainQuestion(question: Question): { text: string; labels: string[] } {
  const text = toText(question.instructions);
  if (question.type === 'predicate') return { text, labels: ['Yes', 'No'] };
  const labels =
    question.type === 'choice'
      ? question.choices.map(({ value, description }) => label(String(value), description))
      : question.levels.map((level) => label(level.label, level.description));
  return { text, labels };
}

/** The parameters of a question as its caller knows them, by the backend's names. */
export function paramsOf({ type }: Question, index: number): [string, string][] {
  const at = `questions[${index}]`;
  const options = type === 'choice' ? 'choices' : type === 'score' ? 'levels' : 'type';
  return [
    [`${at}.text`, `${at}.instructions`],
    [`${at}.labels`, `${at}.${options}`],
  ];
}

/** The answer that these probabilities of the labels are. */
export function toDecisionAnswer(question: Question, shares: readonly number[]): Answer {
  const name = question.name ?? null;
  const shareOf = (index: number) => shares[index] ?? 0;
  if (question.type === 'predicate') return { type: 'predicate', name, probability: shareOf(0) };
  const confidence = Math.max(...shares);
  if (question.type === 'choice') {
    const { choices } = question;
    const probabilities = choices.map(({ value }, index) => ({ value, probability: shareOf(index) }));
    const choice = choices[shares.indexOf(confidence)]?.value ?? '';
    return { type: 'choice', name, choice, confidence, probabilities };
  }
  const probabilities = question.levels.map(({ label }, value) => ({
    value,
    label,
    probability: shareOf(value),
  }));
  const score = shares.reduce((sum, share, value) => sum + share * value, 0);
  return { type: 'score', name, score, confidence, probabilities };
}
