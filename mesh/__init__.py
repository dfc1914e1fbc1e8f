"""The kit that all services share: errors, configuration, database, batches, channels, start and stop.

It holds no word of the business and imports no service.
"""
