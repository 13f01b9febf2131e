"""From rows inserted into outbox tables to events on their own topics."""
