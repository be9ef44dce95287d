// Chat completions that callers asked to keep.
export { ChatCompletionAssembler } from './assemble';
export { D1R2ChatCompletionStore } from './d1-r2';
export { KEPT_DAYS, type ChatCompletionStore } from './interface';
