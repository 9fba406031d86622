"""The smoke recipe made so small that a test can afford the whole pipeline: it proves the machinery, not learning."""

SMALL = (
    "teaching_atlas.num_public_train=240",
    "teaching_atlas.num_public_heldout=40",
    "teaching_atlas.num_book_pages=3",
    "teaching_atlas.num_heldout_pages=1",
    "pathoclip.num_steps=4",
    "base_model.num_lookups=40",
    "cpt.max_steps=4",
    "cpt.num_processes=1",
    "sft.max_steps=4",
    "sft.num_processes=1",
    "sft.dev_questions=8",
    "sft.dev_every_steps=2",
    "rl.max_steps=2",
    # After four steps the model still guesses.
    "rl.max_initial_loss_share=null",
    "rl.num_processes=1",
    "rl.prompts_per_step=4",
    "rl.num_generations=4",
    "rl.batch_size_per_process=16",
    "rl.eval_every_steps=1",
    "vqa_benchmarks.generate_for_all=false",
)
