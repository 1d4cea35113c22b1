package iam

import (
	"bytes"
	"cmp"
	"context"
	"encoding/csv"
	"slices"
	"strconv"
	"strings"
	"time"

	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/arn"
	"carrel/internal/awserr"
	"carrel/internal/service"
	"carrel/internal/state"
)

// reportValid is how long a credential report counts (IAM API reference, GenerateCredentialReport).
const reportValid = 4 * time.Hour

// reportColumns are AWS's, in its order (IAM User Guide, "Get credential reports").
var reportColumns = strings.Split("user,arn,user_creation_time,password_enabled,password_last_used,password_last_changed,password_next_rotation,mfa_active,"+
	"access_key_1_active,access_key_1_last_rotated,access_key_1_last_used_date,access_key_1_last_used_region,access_key_1_last_used_service,"+
	"access_key_2_active,access_key_2_last_rotated,access_key_2_last_used_date,access_key_2_last_used_region,access_key_2_last_used_service,"+
	"cert_1_active,cert_1_last_rotated,cert_2_active,cert_2_last_rotated", ",")

// What stands in a field that has no value.
const (
	notApplicable = "N/A"
	notSupported  = "not_supported"
	noInformation = "no_information"
)

// GenerateCredentialReport asks for a report. There is nothing to wait for here; but clients know the answers of AWS, and the first is that it has begun.
func (s *Service) GenerateCredentialReport(ctx context.Context, _ service.Call, _ *iam.GenerateCredentialReportInput) (*iam.GenerateCredentialReportOutput, error) {
	out := &iam.GenerateCredentialReportOutput{}
	err := s.setAccount(ctx, func(tx *state.Tx, a *state.Account) error {
		*out = iam.GenerateCredentialReportOutput{State: shape.Ptr(iam.ReportStateTypeComplete)}
		if a.Reported.IsZero() || tx.Now().Sub(a.Reported) >= reportValid {
			out.State, out.Description = shape.Ptr(iam.ReportStateTypeStarted), shape.Ptr("No report exists. Starting a new report generation task")
			a.Reported = tx.Now()
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// GetCredentialReport gives the report that was asked for. It says what is the case now, which is the time that it names: older news are worth less.
func (s *Service) GetCredentialReport(ctx context.Context, _ service.Call, _ *iam.GetCredentialReportInput) (*iam.GetCredentialReportOutput, error) {
	var now time.Time
	var snap *state.Snapshot
	err := s.update(ctx, func(tx *state.Tx) error {
		now, snap = tx.Now(), tx.Snapshot()
		switch asked := accountOf(snap).Reported; {
		case asked.IsZero():
			return awserr.Model("ReportNotPresent", "No credential report exists. Use GenerateCredentialReport to generate one.").WithStatus(410)
		case now.Sub(asked) >= reportValid:
			return awserr.Model("ReportExpired", "The most recent credential report has expired. Use GenerateCredentialReport to generate a new one.").WithStatus(410)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	content, err := s.report(snap)
	if err != nil {
		return nil, awserr.Fault(err)
	}
	return &iam.GetCredentialReportOutput{Content: content, ReportFormat: shape.Ptr(iam.ReportFormatTypeTextCsv), GeneratedTime: &now}, nil
}

// report writes the report: the root first, then the users in the order of their names.
func (s *Service) report(r state.Reader) ([]byte, error) {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	rows := [][]string{reportColumns, s.rootRow(r)}
	users := slices.SortedFunc(state.All(r, state.Users), func(a, b *state.User) int {
		return cmp.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name))
	})
	for _, u := range users {
		rows = append(rows, s.userRow(r, u))
	}
	if err := w.WriteAll(rows); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func (s *Service) rootRow(r state.Reader) []string {
	root := s.describeRoot(r)
	row := []string{"<root_account>", *root.Arn, reportTime(shape.Val(root.CreateDate)), notSupported, noInformation, notSupported, notSupported}
	return append(row, s.deviceAndKeys(r, holder{})...)
}

func (s *Service) userRow(r state.Reader, u *state.User) []string {
	row := []string{u.Name, arn.User(s.Partition, s.AccountID, u.Path, u.Name).String(), reportTime(u.Created)}
	if l := u.Login; l != nil {
		next := notApplicable
		if p := accountOf(r).Passwords; p != nil && p.MaxAgeDays > 0 {
			next = reportTime(l.Changed.AddDate(0, 0, p.MaxAgeDays))
		}
		row = append(row, "true", noInformation, reportTime(l.Changed), next)
	} else {
		row = append(row, "false", notApplicable, notApplicable, notApplicable)
	}
	return append(row, s.deviceAndKeys(r, holder{u})...)
}

// deviceAndKeys are the columns from mfa_active on.
func (s *Service) deviceAndKeys(r state.Reader, h holder) []string {
	row := []string{strconv.FormatBool(len(h.devices(r)) > 0)}
	keys := h.keys(r)
	for i := range keysPerUser {
		if i >= len(keys) {
			row = append(row, "false", notApplicable, notApplicable, notApplicable, notApplicable)
			continue
		}
		used := []string{notApplicable, notApplicable, notApplicable}
		if s.LastUsed != nil {
			if use, known := s.LastUsed(keys[i].ID); known {
				used = []string{reportTime(use.At), use.Region, use.Service}
			}
		}
		row = append(append(row, strconv.FormatBool(keys[i].Active), reportTime(keys[i].Created)), used...)
	}
	return append(row, "false", notApplicable, "false", notApplicable)
}

// reportTime is a time as the report writes it: "2026-05-04T03:02:01+00:00".
func reportTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05+00:00") }
