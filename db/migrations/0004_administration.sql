CREATE TABLE `audit_logs` (
	`id` text PRIMARY KEY NOT NULL,
	`at_ms` integer NOT NULL,
	`project_id` text NOT NULL,
	`actor_key_id` text,
	`action` text NOT NULL,
	`resource_id` text NOT NULL,
	`changed_fields` text NOT NULL,
	`request_id` text
);
--> statement-breakpoint
CREATE INDEX `audit_logs_project_idx` ON `audit_logs` (`project_id`,`id`);--> statement-breakpoint
CREATE INDEX `audit_logs_actor_idx` ON `audit_logs` (`actor_key_id`,`id`);--> statement-breakpoint
ALTER TABLE `api_keys` ADD `allowed_models` text;--> statement-breakpoint
ALTER TABLE `api_keys` ADD `ip_allow_list` text;--> statement-breakpoint
ALTER TABLE `api_keys` ADD `is_end_user_required` integer DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE `api_keys` ADD `previous_lookup` text;--> statement-breakpoint
ALTER TABLE `api_keys` ADD `previous_hash` text;--> statement-breakpoint
ALTER TABLE `api_keys` ADD `previous_expires_at_ms` integer;--> statement-breakpoint
CREATE INDEX `api_keys_previous_lookup_idx` ON `api_keys` (`previous_lookup`);--> statement-breakpoint
CREATE TRIGGER `audit_logs_no_update` BEFORE UPDATE ON `audit_logs` BEGIN SELECT RAISE(ABORT, 'audit_logs is append-only'); END;--> statement-breakpoint
CREATE TRIGGER `audit_logs_no_delete` BEFORE DELETE ON `audit_logs` BEGIN SELECT RAISE(ABORT, 'audit_logs is append-only'); END;