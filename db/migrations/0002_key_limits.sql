ALTER TABLE `api_keys` ADD `requests_per_minute` integer DEFAULT 60000 NOT NULL;--> statement-breakpoint
ALTER TABLE `api_keys` ADD `tokens_per_minute` integer DEFAULT 100000000 NOT NULL;--> statement-breakpoint
ALTER TABLE `api_keys` ADD `concurrency` integer DEFAULT 1000 NOT NULL;--> statement-breakpoint
ALTER TABLE `api_keys` ADD `budget_micros` integer;--> statement-breakpoint
ALTER TABLE `api_keys` ADD `budget_window` text DEFAULT 'month' NOT NULL;--> statement-breakpoint
ALTER TABLE `api_keys` ADD `is_budget_hard` integer DEFAULT true NOT NULL;