ALTER TABLE `chat_completions` ADD `expires_at_ms` integer DEFAULT 0 NOT NULL;--> statement-breakpoint
CREATE INDEX `chat_completions_expires_idx` ON `chat_completions` (`expires_at_ms`);--> statement-breakpoint
ALTER TABLE `projects` ADD `budget_micros` integer;--> statement-breakpoint
ALTER TABLE `projects` ADD `budget_window` text DEFAULT 'month' NOT NULL;--> statement-breakpoint
ALTER TABLE `projects` ADD `is_budget_hard` integer DEFAULT true NOT NULL;--> statement-breakpoint
UPDATE `chat_completions` SET `expires_at_ms` = `created_at_ms` + 2592000000;