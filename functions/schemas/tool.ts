// Tools that a model may call, and the choice among them.
import { z } from '@hono/zod-openapi';
import { isTooDeep, MAX_DEPTH } from './depth';
import { checkKeys, rejectWith } from './reject';

const MAX_TOOLS = 128;

export const functionName = z
  .string()
  .regex(/^[A-Za-z0-9_-]{1,64}$/, 'must be 1 to 64 letters, digits, _ or -');

const FunctionSchema = z.strictObject({
  name: functionName,
  description: z.string().max(16_384).nullish(),
  parameters: z
    .record(z.string(), z.unknown())
    .refine((schema) => !isTooDeep(schema), `must not be nested deeper than ${MAX_DEPTH} levels`)
    .nullish()
    .openapi({
      description: 'A JSON schema of objects; without one the function takes no arguments.',
    }),
  strict: z.boolean().nullish().openapi({
    description:
      'With `true` a schema that cannot hold in every detail is an error; else what cannot hold is left out.',
  }),
});

// A tool is checked by its type first: "custom tools are not supported" helps more than "no such form".
const ToolSchema = z
  .looseObject({
    type: z.string().openapi({ enum: ['function'] }),
    function: FunctionSchema.optional(),
  })
  .superRefine((tool, context) => {
    if (tool.type !== 'function') {
      rejectWith('unsupported_value', ['type'], "only tools of type 'function' are supported", context);
      return;
    }
    checkKeys(tool, ['type', 'function'], [], context);
    if (tool.function === undefined) {
      rejectWith('missing_required_parameter', ['function'], 'is missing', context);
    }
  })
  .openapi('Tool', { additionalProperties: false, required: ['type', 'function'] });

export const ToolsSchema = z
  .array(ToolSchema)
  .max(MAX_TOOLS)
  .superRefine((tools, context) => {
    const names = new Set<string>();
    for (const [index, { function: tool }] of tools.entries()) {
      if (tool === undefined) continue;
      if (names.has(tool.name)) {
        rejectWith('invalid_value', [index, 'function', 'name'], 'is the name of another tool, too', context);
      }
      names.add(tool.name);
    }
  });

export const ToolChoiceSchema = z.union([
  z.enum(['none', 'auto', 'required']),
  z
    .looseObject({
      type: z.string().openapi({ enum: ['function'] }),
      function: z.strictObject({ name: functionName }).optional(),
    })
    .superRefine((choice, context) => {
      if (choice.type !== 'function') {
        rejectWith('unsupported_value', ['type'], "only a choice of type 'function' is supported", context);
      } else if (choice.function === undefined) {
        rejectWith('missing_required_parameter', ['function'], 'is missing', context);
      }
    })
    .openapi({ additionalProperties: false, required: ['type', 'function'] }),
]);

type Tool = z.output<typeof ToolSchema>;
type ToolChoice = z.output<typeof ToolChoiceSchema> | null | undefined;

/** The function that a choice names. */
export function namedFunction(choice: ToolChoice): string | undefined {
  return typeof choice === 'object' ? choice?.function?.name : undefined;
}

/** What is wrong with a choice among these tools; undefined when nothing is. */
export function faultOfChoice(choice: ToolChoice, tools: readonly Tool[]): string | undefined {
  const name = namedFunction(choice);
  if (name !== undefined && !tools.some((tool) => tool.function?.name === name)) {
    return "names a function that 'tools' does not have";
  }
  return choice === 'required' && tools.length === 0 ? "needs 'tools' to choose from" : undefined;
}

/** Tools and choice as the backend takes them. */
export interface PlainTools {
  tools: { type: 'function'; function: PlainFunction }[];
  tool_choice: 'none' | 'auto' | 'required';
  /** The one function that must be called. */
  tool_name: string | null;
}

interface PlainFunction {
  name: string;
  description: string | null;
  parameters: Record<string, unknown> | null;
  strict: boolean;
}

export function toPlainTools(tools: readonly Tool[], choice: ToolChoice): PlainTools {
  const name = namedFunction(choice);
  return {
    tools: tools.flatMap(({ function: tool }) => (tool === undefined ? [] : [toPlainTool(tool)])),
    tool_choice: name !== undefined ? 'required' : typeof choice === 'string' ? choice : 'auto',
    tool_name: name ?? null,
  };
}

function toPlainTool({ name, description, parameters, strict }: z.output<typeof FunctionSchema>) {
  return {
    type: 'function' as const,
    function: {
      name,
      description: description ?? null,
      parameters: parameters ?? null,
      strict: strict ?? false,
    },
  };
}
