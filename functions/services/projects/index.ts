// Projects: what owns keys, and everything that is stored through them.
export { D1ProjectRegistry } from './d1';
export { ROOT_PROJECT_ID, type Project, type ProjectRegistry, type ProjectSettings } from './interface';
