// The audit log: every act of administration, append-only.
export { D1AuditLog } from './d1';
export { auditEntry, auditEntryIfThere } from './entry';
export { ACTIONS, type Actor, type AuditEntry, type AuditLog } from './interface';
