CREATE TABLE `usage_days` (
	`project_id` text NOT NULL,
	`day_ms` integer NOT NULL,
	`key_id` text NOT NULL,
	`model` text NOT NULL,
	`end_user` text NOT NULL,
	`operation` text NOT NULL,
	`exit` text NOT NULL,
	`requests` integer NOT NULL,
	`input_tokens` integer NOT NULL,
	`cached_tokens` integer NOT NULL,
	`output_tokens` integer NOT NULL,
	`cost_micros` integer NOT NULL,
	FOREIGN KEY (`project_id`) REFERENCES `projects`(`id`) ON UPDATE no action ON DELETE cascade
);
--> statement-breakpoint
CREATE UNIQUE INDEX `usage_days_idx` ON `usage_days` (`project_id`,`day_ms`,`key_id`,`model`,`end_user`,`operation`,`exit`);--> statement-breakpoint
ALTER TABLE `api_keys` ADD `zero_data_retention` integer DEFAULT false NOT NULL;