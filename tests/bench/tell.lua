-- What a run of wrk saw, as one line of JSON behind what wrk prints by itself.

function tell(summary, latency, fields)
  local errors = summary.errors
  fields.requests = summary.requests
  fields.duration_us = summary.duration
  fields.bad_status = errors.status
  fields.broken = errors.connect + errors.read + errors.write + errors.timeout
  local members = {}
  for name, value in pairs(fields) do
    members[#members + 1] = string.format('"%s": %.0f', name, value)
  end
  local percentiles = {}
  for percent = 1, 99 do
    percentiles[percent] = string.format("%.0f", latency:percentile(percent))
  end
  members[#members + 1] = '"percentiles_us": [' .. table.concat(percentiles, ", ") .. "]"
  io.write("{" .. table.concat(members, ", ") .. "}\n")
end
