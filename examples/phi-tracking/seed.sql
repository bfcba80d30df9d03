-- One user, cohort and submission, which the pipeline's rows belong to.
INSERT INTO depot_user (id, password, is_superuser, username, first_name, last_name, email, date_joined, created_at, updated_at, is_staff, is_active)
VALUES (1, '!', 0, 'jones', 'J', 'Jones', 'jones@example.org', utc_timestamp(6), utc_timestamp(6), utc_timestamp(6), 0, 1);
INSERT INTO depot_cohort (id, created_at, updated_at, name, status, type) VALUES (5, utc_timestamp(6), utc_timestamp(6), 'Five', 'active', 'clinical');
INSERT INTO depot_protocolyear (id, created_at, updated_at, name, year, description, is_active) VALUES (1, utc_timestamp(6), utc_timestamp(6), '2026', 2026, '', 1);
INSERT INTO depot_datafiletype (id, created_at, updated_at, name, label, description, `order`, is_active)
VALUES (1, utc_timestamp(6), utc_timestamp(6), 'patient', 'Patients', '', 1, 1);
INSERT INTO depot_cohortsubmission (id, created_at, updated_at, protocol_year_id, cohort_id, started_by_id, status, patient_ids, patient_file_processed,
	validation_mode, validation_threshold, notes, final_comments, final_acknowledged, reopened_reason)
VALUES (1, utc_timestamp(6), utc_timestamp(6), 1, 5, 1, 'draft', '[]', 0, 'strict', 0, '', '', 0, '');
INSERT INTO depot_cohortsubmissiondatatable (id, created_at, updated_at, submission_id, data_file_type_id, status, is_skipped, skip_reason,
	not_available, not_required, signed_off, sign_off_comments, validation_warnings, patient_id_mismatches, warning_count)
VALUES (1, utc_timestamp(6), utc_timestamp(6), 1, 1, 'in_progress', 0, '', 0, 0, 0, '', '[]', '[]', 0);
