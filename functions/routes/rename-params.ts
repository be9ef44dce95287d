// Lets an operation speak of its own parameters where the backend knows them under other names.
import { ApiError } from '../errors';

/** `names` maps the backend's parameters, `input` or `responses[0]`, to the caller's; a name holds for its items, too. */
export async function withParams<T>(names: Record<string, string>, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw error instanceof ApiError ? renameParam(error, names) : error;
  }
}

function renameParam(error: ApiError, names: Record<string, string>): ApiError {
  const { param } = error.options;
  if (!param) return error;
  const theirs = [param, param.replace(/[.[].*$/s, '')].find((name) => Object.hasOwn(names, name));
  if (theirs === undefined) return error;
  const ours = `${names[theirs]}${param.slice(theirs.length)}`;
  const isSubject = error.message.startsWith(`${param} `);
  const message = isSubject ? `${ours}${error.message.slice(param.length)}` : error.message;
  return new ApiError(error.code, message, { ...error.options, param: ours });
}
